"""Gradient methods: under constraints, with momentum, with a robust loss."""

from __future__ import annotations

import torch
from torch import Tensor

from solver_zoo.base import Answer, Entry, States, Unrolled
from solver_zoo.draw import dictionaries, dictionary, lipschitz, normal, per_iteration, single, uniform

M, N = 12, 16


class NonNegativeLeastSquares(Unrolled):
    """x <- max(x - mu_k A^T (A x - y) / L, 0); A comes at run time, and with it L = ||A||_1 ||A||_inf."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.mu = per_iteration(generator, 1.5, iterations)

    def start(self, *inputs: Tensor) -> States:
        y, A = inputs
        return (y.new_zeros(y.shape[0], A.shape[1]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), (y, A) = states, inputs
        bound = A.abs().sum(dim=0).max() * A.abs().sum(dim=1).max()
        return (torch.clamp(x - self.mu[k] / bound * ((x @ A.T - y) @ A), min=0.0),)


class SimplexGradient(Unrolled):
    """Projected gradient for x^T Q x / 2 - c^T x on the simplex; the projection sorts and adds up."""

    Q: Tensor
    counts: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        A = dictionary(generator, M, N)
        self.register_buffer("Q", A.T @ A)
        self.register_buffer("counts", torch.arange(1, N + 1, dtype=torch.float32))
        self.mu = per_iteration(generator, 0.25, iterations)

    def start(self, *inputs: Tensor) -> States:
        return (torch.full_like(inputs[0], 1 / N),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), c = states, inputs[0]
        v = x - self.mu[k] * (x @ self.Q - c)
        ordered = torch.sort(v, dim=1, descending=True).values
        excess = torch.cumsum(ordered, dim=1) - 1
        count = (ordered * self.counts > excess).sum(dim=1, keepdim=True)
        return (torch.relu(v - excess.gather(1, count - 1) / count),)


class FrankWolfe(Unrolled):
    """min ||A x - y||^2 with ||x||_1 <= 3: each step goes towards one corner, by 2 / (k + 3)."""

    A: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", dictionary(generator, M, N))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0].new_zeros(inputs[0].shape[0], N),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), y = states, inputs[0]
        gradient = (x @ self.A.T - y) @ self.A
        size = gradient.abs()
        corner = torch.where(size == size.amax(dim=1, keepdim=True), -3.0 * torch.sign(gradient), 0.0)
        return (torch.lerp(x, corner, single(2 / (k + 3))),)


class HeavyBall(Unrolled):
    """x <- x + mu_k A^T (y - A x) + beta_k (x - x before); each problem has its own A."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.mu = per_iteration(generator, 0.2, iterations)
        self.beta = per_iteration(generator, 0.4, iterations)

    def start(self, *inputs: Tensor) -> States:
        y, A = inputs
        first = torch.bmm(A.transpose(1, 2), y.unsqueeze(2)).squeeze(2)
        return 0.125 * first, torch.zeros_like(first)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, before), (y, A) = states, inputs
        residual = y - (A @ x.unsqueeze(-1)).squeeze(-1)
        gradient = (residual.unsqueeze(1) @ A).squeeze(1)
        return x + self.mu[k] * gradient + self.beta[k] * (x - before), x


class Huber(Unrolled):
    """Robust regression: residuals longer than delta_k count with their sign; also tells how many are used."""

    A: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", dictionary(generator, N, 8))
        self.mu = single(0.9 / lipschitz(self.A))
        self.delta = per_iteration(generator, 0.7, iterations)

    def start(self, *inputs: Tensor) -> States:
        y, used = inputs
        return y.new_zeros(y.shape[0], 8), used > 0

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, used), (y, _) = states, inputs
        residual = y - x @ self.A.T
        near = residual.abs() <= self.delta[k]
        influence = torch.where(near, residual, self.delta[k] * torch.sign(residual))
        following = x + self.mu * ((influence * used) @ self.A)
        return following, torch.logical_and(used, torch.logical_not(residual.abs() > 3.0))

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        x, used = states
        return x, used.to(x.dtype).mean(dim=1)


def _shared_matrix(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return normal(generator, batch, M), dictionary(generator, M, 8)


def _linear_term(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, N),)


def _measured(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, M),)


def _with_matrix(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return normal(generator, batch, M), dictionaries(generator, batch, M, 8)


def _with_outliers(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return 2 * normal(generator, batch, N), uniform(generator, -0.3, 1.0, batch, N)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "nonnegative_least_squares", "unmixing", "Lawson, Hanson 1974; projected gradient", NonNegativeLeastSquares,
        _shared_matrix, shared_inputs=(1,), runtime_matrix=True,
    ),
    Entry("simplex_gradient", "portfolios", "Duchi et al. 2008", SimplexGradient, _linear_term),
    Entry("frank_wolfe", "sparse recovery", "Frank, Wolfe 1956; Jaggi 2013", FrankWolfe, _measured),
    Entry("heavy_ball", "least squares", "Polyak 1964", HeavyBall, _with_matrix, runtime_matrix=True),
    Entry("huber", "robust regression", "Huber 1964; gradient method", Huber, _with_outliers),
)  # fmt: skip
