"""Thresholding solvers for sparse recovery, learned and not: y = A x with an x that has few entries."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from solver_zoo.base import Entry, States, Unrolled
from solver_zoo.draw import dictionaries, dictionary, lipschitz, near, normal, per_iteration, single

M, N = 12, 24


def soft(x: Tensor, threshold: Tensor | float) -> Tensor:
    """sign(x) max(|x| - threshold, 0)."""
    return torch.sign(x) * torch.relu(torch.abs(x) - threshold)


class _Sparse(Unrolled):
    """A dictionary A in a buffer, the estimate x as the only state, 0 at first."""

    A: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", dictionary(generator, M, N))
        self.step_size = single(1 / lipschitz(self.A))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return (y.new_zeros(y.shape[0], N),)


class Ista(_Sparse):
    """x <- soft(x + mu_k A^T (y - A x), theta_k)."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        self.mu = per_iteration(generator, self.step_size, iterations)
        self.theta = per_iteration(generator, 0.2 * self.step_size, iterations)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        return (soft(x + self.mu[k] * ((y - x @ self.A.T) @ self.A), self.theta[k]),)


class Lista(_Sparse):
    """x <- soft(W1_k y + W2_k x, theta_k), all of them learned for each iteration."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        W2 = torch.eye(N) - self.step_size * self.A.T @ self.A
        self.W1 = nn.ParameterList(near(generator, self.step_size * self.A.T) for _ in range(iterations))
        self.W2 = nn.ParameterList(near(generator, W2) for _ in range(iterations))
        self.theta = nn.ParameterList(per_iteration(generator, 0.03, N) for _ in range(iterations))

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        return (soft(y @ self.W1[k].T + x @ self.W2[k].T, self.theta[k]),)


class TiedLista(_Sparse):
    """x <- soft(W1 y + b + W2 x, theta) with two linear layers that all iterations share."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        self.W1, self.W2 = nn.Linear(M, N), nn.Linear(N, N, bias=False)
        self.W1.weight = near(generator, self.step_size * self.A.T)
        self.W1.bias = nn.Parameter(0.01 * normal(generator, N))
        self.W2.weight = near(generator, torch.eye(N) - self.step_size * self.A.T @ self.A)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        return (nn.functional.softshrink(self.W1(y) + self.W2(x), 0.03125),)


class CoupledLista(_Sparse):
    """x <- soft(x + W_k^T (y - A x), theta_k), A tied and W learned for each iteration."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        stack = [near(generator, self.step_size * self.A) for _ in range(iterations)]
        self.W = nn.Parameter(torch.stack([w.detach() for w in stack]))
        self.theta = per_iteration(generator, 0.03, iterations, 1)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        residual = y - torch.einsum("mn,bn->bm", self.A, x)
        z = x + torch.einsum("mn,bm->bn", self.W[k], residual)
        return (torch.where(z > self.theta[k], z - self.theta[k], torch.clamp(z + self.theta[k], max=0.0)),)


class Fista(_Sparse):
    """ISTA with Nesterov's momentum, whose factors are Python numbers."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        t, self.momentum = 1.0, []
        for _ in range(iterations):
            following = (1 + math.sqrt(1 + 4 * t * t)) / 2
            self.momentum.append(single((t - 1) / following))
            t = following

    def start(self, *inputs: Tensor) -> States:
        zeros = inputs[0].new_zeros(inputs[0].shape[0], N)
        return zeros, zeros

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, z), y = states, inputs[0]
        following = soft(z + self.step_size * ((y - z @ self.A.T) @ self.A), 0.125 * self.step_size)
        return following, following + self.momentum[k] * (following - x)


class Alista(_Sparse):
    """x <- S_k(x + gamma_k W^T (y - A x)); S_k leaves the three largest entries whole and thresholds the others."""

    W: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        W = torch.linalg.solve(self.A @ self.A.T + 0.1 * torch.eye(M), self.A)
        self.register_buffer("W", W / (W * self.A).sum(0))
        self.gamma = per_iteration(generator, 0.3, iterations)
        self.theta = per_iteration(generator, 0.05, iterations)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        z = x + self.gamma[k] * ((y - x @ self.A.T) @ self.W)
        size = z.abs()
        third = torch.topk(size, 3, dim=1).values[:, -1:]
        return (torch.where(size >= third, z, soft(z, self.theta[k])),)


class HardThresholding(Unrolled):
    """x <- H_s(x + mu_k A^T (y - A x)): the s largest entries stay, by TopK and scatter; each problem has its own A."""

    kept = 4

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.mu = per_iteration(generator, 0.2, iterations)

    def start(self, *inputs: Tensor) -> States:
        y, A = inputs
        return (y.new_zeros(y.shape[0], A.shape[2]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), (y, A) = states, inputs
        residual = y - torch.einsum("bij,bj->bi", A, x)
        z = x + self.mu[k] * torch.einsum("bij,bi->bj", A, residual)
        indices = torch.topk(z.abs(), self.kept, dim=1).indices
        return (torch.zeros_like(z).scatter(1, indices, z.gather(1, indices)),)


class GroupIsta(_Sparse):
    """Eight groups of three entries: each is shortened by theta_k, or becomes zero."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        self.theta = per_iteration(generator, 0.05, iterations, N // 3, 1)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        z = (x + self.step_size * ((y - x @ self.A.T) @ self.A)).reshape(-1, N // 3, 3)
        length = torch.linalg.vector_norm(z, dim=2, keepdim=True)
        return ((z * torch.clamp(1 - self.theta[k] / torch.clamp(length, min=1e-3), min=0.0)).flatten(1),)


class MatchingPursuit(_Sparse):
    """The column that fits the residual best enters with its coefficient, damped by rho_k."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations, generator)
        self.rho = per_iteration(generator, 0.8, iterations)

    def start(self, *inputs: Tensor) -> States:
        return *super().start(*inputs), inputs[0]

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, residual = states
        correlation = residual @ self.A
        best = torch.argmax(correlation.abs(), dim=1, keepdim=True)
        value = self.rho[k] * correlation.gather(1, best)
        return x.scatter_add(1, best, value), residual - value * self.A.T[best[:, 0]]


def _measured(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, M),)


def _with_matrix(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return normal(generator, batch, M), dictionaries(generator, batch, M, 2 * M)


_FIELD = "sparse recovery"
ENTRIES: tuple[Entry, ...] = (
    Entry("ista", _FIELD, "Daubechies, Defrise, De Mol 2004", Ista, _measured),
    Entry("lista", _FIELD, "Gregor, LeCun 2010", Lista, _measured),
    Entry("lista_tied", _FIELD, "Gregor, LeCun 2010", TiedLista, _measured),
    Entry("lista_cp", _FIELD, "Chen, Liu, Wang, Yin 2018", CoupledLista, _measured),
    Entry("fista", _FIELD, "Beck, Teboulle 2009", Fista, _measured, iterations=6),
    Entry("alista", _FIELD, "Liu, Chen, Wang, Yin 2019", Alista, _measured),
    Entry("hard_thresholding", _FIELD, "Blumensath, Davies 2009", HardThresholding, _with_matrix, runtime_matrix=True),
    Entry("group_ista", _FIELD, "Yuan, Lin 2006", GroupIsta, _measured),
    Entry("matching_pursuit", _FIELD, "Mallat, Zhang 1993", MatchingPursuit, _measured),
)
