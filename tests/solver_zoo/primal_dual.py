"""Primal-dual methods for total variation, and factorisations of matrices."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled
from solver_zoo.draw import dictionary, near, normal, per_iteration, uniform


class ChambollePock(Unrolled):
    """Total variation in 1-D: p <- clip(p + sigma_k D x', lambda); x <- prox(x - tau D^T p); x' = 2 x - x before."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.sigma = per_iteration(generator, 0.45, iterations)
        self.tau, self.strength = 0.4375, nn.Parameter(torch.tensor(0.4))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y, y, torch.zeros_like(y[:, 1:])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, ahead, p), y = states, inputs[0]
        p = torch.clamp(p + self.sigma[k] * torch.diff(ahead, dim=1), min=-self.strength, max=self.strength)
        back = functional.pad(p, (0, 1)) - functional.pad(p, (1, 0))
        following = (x + self.tau * (back + y)) / (1 + self.tau)
        return following, 2 * following - x, p


class CondatVu(Unrolled):
    """min ||A x - y||^2 / 2 + ||D x||_1 / 8 with 0 <= x <= 1; the matrix, shared by all problems, is an input."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.tau = per_iteration(generator, 0.15, iterations)

    def start(self, *inputs: Tensor) -> States:
        y, A = inputs
        x = y @ A
        return 0.125 * x, torch.zeros_like(x)[:, 1:]

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, p), (y, A) = states, inputs
        edge = p.new_zeros(p.shape[0], 1)
        adjoint = torch.cat((edge, p), dim=1) - torch.cat((p, edge), dim=1)
        gradient = torch.einsum("mn,bm->bn", A, torch.einsum("bn,mn->bm", x, A) - y)
        following = (x - self.tau[k] * (gradient + adjoint)).clamp(0.0, 1.0)
        ahead = 2 * following - x
        return following, torch.clip(p + 0.375 * (ahead[:, 1:] - ahead[:, :-1]), -0.125, 0.125)


class TotalVariation2d(Unrolled):
    """Isotropic total variation of an image: the dual field p, two numbers per pixel, kept in the unit disc."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.tau = per_iteration(generator, 0.2, iterations)
        self.strength = 0.25

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return (torch.stack((torch.zeros_like(y), torch.zeros_like(y)), dim=1),)

    def _image(self, p: Tensor, y: Tensor) -> Tensor:
        down, right = p[:, 0], p[:, 1]
        divergence = down - functional.pad(down[:, :-1], (0, 0, 1, 0)) + right - functional.pad(right[..., :-1], (1, 0))
        return y + self.strength * divergence

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (p,), y = states, inputs[0]
        x = self._image(p, y)
        down = functional.pad(x[:, 1:] - x[:, :-1], (0, 0, 0, 1))
        right = functional.pad(x[:, :, 1:] - x[:, :, :-1], (0, 1))
        p = p + self.tau[k] / self.strength * torch.stack((down, right), dim=1)
        return (p / torch.sqrt(p.square().sum(dim=1, keepdim=True)).clamp(min=1.0),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return self._image(states[0], inputs[0])


class RobustPca(Unrolled):
    """M = U V^T + S: gradient steps on the factors, a soft threshold on S."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.first = nn.Parameter(torch.linalg.qr(normal(generator, 8, 3)).Q)
        self.mu = per_iteration(generator, 0.3, iterations)
        self.theta = per_iteration(generator, 0.4, iterations, 1, 1)

    def start(self, *inputs: Tensor) -> States:
        M = inputs[0]
        return M @ self.first, self.first.expand(M.shape[0], -1, -1), torch.zeros_like(M)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (U, V, S), M = states, inputs[0]
        residual = torch.einsum("bmr,bnr->bmn", U, V) + S - M
        U_new = U - self.mu[k] * torch.einsum("bmn,bnr->bmr", residual, V)
        V_new = V - self.mu[k] / 8 * torch.matmul(residual.transpose(1, 2), U)
        rest = M - torch.bmm(U_new, V_new.mT)
        return U_new, V_new, torch.sign(rest) * torch.clamp_min(rest.abs() - self.theta[k], 0.0)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        U, V, S = states
        return U @ V.transpose(-1, -2), S


class NonNegativeFactors(Unrolled):
    """Multiplicative updates of two non-negative factors, M = W H."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.W = nn.Parameter(uniform(generator, 0.5, 1.5, 10, 3))
        self.H = nn.Parameter(uniform(generator, 0.5, 1.5, 3, 8))

    def start(self, *inputs: Tensor) -> States:
        scale = inputs[0].mean(dim=(1, 2), keepdim=True)
        return scale * self.W, self.H.repeat(inputs[0].shape[0], 1, 1)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (W, H), M = states, inputs[0]
        H = H * torch.einsum("bmr,bmn->brn", W, M) / (torch.einsum("bmr,bms,bsn->brn", W, W, H) + 1e-6)
        return W * (M @ H.mT) / (W @ (H @ H.mT) + 1e-6), H

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states


class LearnedPrimalDual(Unrolled):
    """Primal and dual steps with an operator and an adjoint of their own in each iteration, and learned relaxation."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        A = 0.4 * dictionary(generator, 10, 16)
        self.forward_operator = nn.ParameterList(near(generator, A) for _ in range(iterations))
        self.adjoint = nn.ParameterList(near(generator, A) for _ in range(iterations))
        self.relaxation = per_iteration(generator, 0.5, iterations, 16)

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y.new_full((y.shape[0], 16), 0.125), torch.zeros_like(y)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, p), y = states, inputs[0]
        p = (p + functional.linear(x, self.forward_operator[k]) - y) / 2
        following = torch.tanh(x - p @ self.adjoint[k])
        return following + torch.sigmoid(self.relaxation[k]) * (following - x), p


def _signal(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.cumsum(0.3 * normal(generator, batch, 24), dim=1) + 0.2 * normal(generator, batch, 24),)


def _with_matrix(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return uniform(generator, 0.0, 1.0, batch, 10), dictionary(generator, 10, 16)


def _image(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, 8, 8),)


def _low_rank(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    low = normal(generator, batch, 10, 3) @ normal(generator, batch, 3, 8) / 3
    return (low + (uniform(generator, 0, 1, batch, 10, 8) < 0.1) * 3.0,)


def _positive(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (uniform(generator, 0, 1, batch, 10, 3) @ uniform(generator, 0, 1, batch, 3, 8) + 0.05,)


def _measured(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, 10),)


ENTRIES: tuple[Entry, ...] = (
    Entry("chambolle_pock", "denoising", "Chambolle, Pock 2011", ChambollePock, _signal),
    Entry(
        "condat_vu", "restoration", "Condat 2013; Vu 2013", CondatVu, _with_matrix,
        shared_inputs=(1,), runtime_matrix=True,
    ),
    Entry("total_variation_2d", "imaging", "Chambolle 2004; Beck, Teboulle 2009", TotalVariation2d, _image),
    Entry("robust_pca", "video", "Candes et al. 2011; Cai, Liu, Yin 2021", RobustPca, _low_rank),
    Entry("nonnegative_factors", "unmixing", "Lee, Seung 2001", NonNegativeFactors, _positive),
    Entry("learned_primal_dual", "tomography", "Adler, Oktem 2018", LearnedPrimalDual, _measured),
)  # fmt: skip
