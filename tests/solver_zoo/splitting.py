"""Operator splitting: ADMM in four settings, Douglas-Rachford, a decentralised method, and an inner loop."""

from __future__ import annotations

import torch
from torch import Tensor

from solver_zoo.base import Answer, Entry, States, Unrolled
from solver_zoo.draw import dictionaries, dictionary, normal, per_iteration, uniform

M, N, NODES = 12, 20, 4


class AdmmLasso(Unrolled):
    """x <- (A^T A + I)^-1 (A^T y + z - u); v = 1.5 x - 0.5 z + u; z <- soft(v, theta_k); u <- v - z."""

    A: Tensor
    inverse: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        A = dictionary(generator, M, N)
        self.register_buffer("A", A)
        self.register_buffer("inverse", torch.linalg.inv(A.T @ A + torch.eye(N)))
        self.theta = per_iteration(generator, 0.1, iterations)

    def start(self, *inputs: Tensor) -> States:
        zeros = inputs[0].new_zeros(inputs[0].shape[0], N)
        return zeros, zeros

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (z, u), y = states, inputs[0]
        x = (y @ self.A + z - u) @ self.inverse
        relaxed = 1.5 * x - 0.5 * z
        v = relaxed + u
        z = torch.maximum(v - self.theta[k], torch.zeros_like(v)) - torch.maximum(
            -v - self.theta[k], torch.zeros_like(v)
        )
        return z, v - z


class AdmmQuadratic(Unrolled):
    """min x^T P x / 2 + q^T x with lower <= A x <= upper, as OSQP does it; x, z and the dual are kept between calls."""

    A: Tensor
    inverse: Tensor
    sigma, rho, alpha = 2.0**-6, 0.5, 1.5

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        A, root = dictionary(generator, M, 8), dictionary(generator, 8, 8)
        self.register_buffer("A", A)
        left = root.T @ root + self.sigma * torch.eye(8) + self.rho * A.T @ A
        self.register_buffer("inverse", torch.linalg.inv(left))

    def start(self, *inputs: Tensor) -> States:
        return inputs[3], inputs[4], inputs[5]

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, z, dual), (q, lower, upper) = states, inputs[:3]
        right = self.sigma * x - q + (self.rho * z - dual) @ self.A
        x_new = right @ self.inverse
        z_relaxed = self.alpha * (x_new @ self.A.T) + (1 - self.alpha) * z
        z_new = torch.clamp(z_relaxed + dual / self.rho, min=lower, max=upper)
        return self.alpha * x_new + (1 - self.alpha) * x, z_new, dual + self.rho * (z_relaxed - z_new)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states


class DouglasRachford(Unrolled):
    """Basis pursuit, min ||x||_1 with A x = y: z <- z + lambda_k (soft(2 p - z) - p), p the projection of z."""

    A: Tensor
    pseudo_inverse: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", dictionary(generator, M, N))
        self.register_buffer("pseudo_inverse", torch.linalg.pinv(self.A))
        self.relaxation = per_iteration(generator, 1.0, iterations)

    def _project(self, z: Tensor, y: Tensor) -> Tensor:
        return z + torch.einsum("nm,bm->bn", self.pseudo_inverse, y - torch.einsum("mn,bn->bm", self.A, z))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0] @ self.pseudo_inverse.T,)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (z,), y = states, inputs[0]
        p = self._project(z, y)
        mirrored = 2 * p - z
        threshold = torch.where(
            mirrored > 0.125, mirrored - 0.125, torch.where(mirrored < -0.125, mirrored + 0.125, 0.0)
        )
        return (z + self.relaxation[k] * (threshold - p),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return self._project(states[0], inputs[0])


class ConsensusAdmm(Unrolled):
    """Four nodes with measurements of their own agree on one sparse vector."""

    A: Tensor
    inverse: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        A = dictionaries(generator, NODES, 6, 10)
        self.register_buffer("A", A)
        self.register_buffer("inverse", torch.linalg.inv(A.transpose(1, 2) @ A + torch.eye(10)))
        self.theta = per_iteration(generator, 0.05, iterations)

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y.new_zeros(y.shape[0], 10), y.new_zeros(y.shape[0], NODES, 10)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (z, u), y = states, inputs[0]
        right = torch.einsum("imn,bim->bin", self.A, y) + z[:, None, :] - u
        x = torch.einsum("imn,bin->bim", self.inverse, right)
        mean = (x + u).mean(dim=1)
        z = mean - torch.clamp(mean, -self.theta[k], self.theta[k])
        return z, u + x - z.unsqueeze(1)


class Extra(Unrolled):
    """EXTRA: nodes average with their neighbours; the mixing matrix, which all problems share, comes at run time."""

    A: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", dictionaries(generator, NODES, 6, 5))
        self.alpha = 0.125

    def _gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("imn,bim->bin", self.A, torch.einsum("imn,bin->bim", self.A, x) - y)

    def start(self, *inputs: Tensor) -> States:
        y, mixing = inputs
        before = y.new_zeros(y.shape[0], NODES, 5)
        return torch.matmul(mixing, before) - self.alpha * self._gradient(before, y), before

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, before), (y, mixing) = states, inputs
        half = (mixing + torch.eye(NODES, dtype=mixing.dtype)) / 2
        following = x + torch.matmul(mixing, x) - torch.einsum("ij,bjn->bin", half, before)
        return following - self.alpha * (self._gradient(x, y) - self._gradient(before, y)), x

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        x = states[0]
        return x, (x - x.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2))


class ProximalConjugateGradients(Unrolled):
    """Half-quadratic splitting: (A^T A + rho) z = A^T y + rho x by three steps of conjugate gradients, then soft."""

    A: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", dictionary(generator, M, N))
        self.rho = per_iteration(generator, 0.5, iterations)

    def start(self, *inputs: Tensor) -> States:
        zeros = inputs[0].new_zeros(inputs[0].shape[0], N)
        return zeros, zeros

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, z), y = states, inputs[0]
        residual = y @ self.A + self.rho[k] * x - self._normal(z, k)
        direction, square = residual, (residual * residual).sum(dim=1, keepdim=True)
        for _ in range(3):
            image = self._normal(direction, k)
            length = square / ((direction * image).sum(dim=1, keepdim=True) + 1e-6)
            z, residual = z + length * direction, residual - length * image
            before, square = square, (residual * residual).sum(dim=1, keepdim=True)
            direction = residual + square / (before + 1e-6) * direction
        return torch.sign(z) * torch.relu(z.abs() - 0.0625), z

    def _normal(self, v: Tensor, k: int) -> Tensor:
        return (v @ self.A.T) @ self.A + self.rho[k] * v


def _measured(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, M),)


def _quadratic(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    lower, upper = uniform(generator, -1, -0.1, batch, M), uniform(generator, 0.1, 1, batch, M)
    kept = [0.1 * normal(generator, batch, n) for n in (8, M, M)]
    return normal(generator, batch, 8), lower, upper, *kept


def _nodes(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, NODES, 6),)


def _mixed(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    weights = uniform(generator, 0.1, 0.2, NODES, NODES)
    mixing = torch.triu(weights, 1) + torch.triu(weights, 1).T
    return normal(generator, batch, NODES, 6), mixing + torch.diag(1 - mixing.sum(dim=1))


ENTRIES: tuple[Entry, ...] = (
    Entry("admm_lasso", "sparse recovery", "Boyd et al. 2011", AdmmLasso, _measured),
    Entry(
        "admm_quadratic", "quadratic programming", "Stellato et al. 2020 (OSQP)", AdmmQuadratic, _quadratic,
        notes={"warm start": "x, z and the dual are inputs and outputs"},
    ),
    Entry("douglas_rachford", "sparse recovery", "Lions, Mercier 1979", DouglasRachford, _measured),
    Entry("consensus_admm", "distributed estimation", "Boyd et al. 2011", ConsensusAdmm, _nodes),
    Entry(
        "extra", "distributed estimation", "Shi, Ling, Wu, Yin 2015", Extra, _mixed,
        shared_inputs=(1,), runtime_matrix=True,
    ),
    Entry("proximal_conjugate_gradients", "sparse recovery", "Geman, Yang 1995", ProximalConjugateGradients, _measured),
)  # fmt: skip
