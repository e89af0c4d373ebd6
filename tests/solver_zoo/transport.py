"""Optimal transport and games: scaling iterations and mirror descent on distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from solver_zoo.base import Answer, Entry, States, Unrolled
from solver_zoo.draw import distribution, per_iteration, single, uniform

N, M = 8, 10


class LogSinkhorn(Unrolled):
    """Potentials f and g by logsumexp; each problem has its own cost, the answer is the plan and f."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.epsilon = 0.25

    def start(self, *inputs: Tensor) -> States:
        cost, a, b = inputs
        return torch.zeros_like(a), torch.zeros_like(b)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (_, g), (cost, a, b) = states, inputs
        f = self.epsilon * (torch.log(a) - torch.logsumexp((g[:, None, :] - cost) / self.epsilon, dim=2))
        g = self.epsilon * (torch.log(b) - torch.logsumexp((f.unsqueeze(2) - cost) / self.epsilon, dim=1))
        return f, g

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        (f, g), cost = states, inputs[0]
        return torch.exp((f[:, :, None] + g[:, None, :] - cost) / self.epsilon), f


class Sinkhorn(Unrolled):
    """u <- a / (K v), v <- b / (K^T u) with K = exp(-cost / epsilon) for a cost that all problems share."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.epsilon = 0.25

    def start(self, *inputs: Tensor) -> States:
        cost, a, b = inputs
        return torch.ones_like(a), torch.ones_like(b)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (_, v), (cost, a, b) = states, inputs
        kernel = torch.exp(-cost / self.epsilon)
        u = a / torch.einsum("ij,bj->bi", kernel, v)
        return u, b / torch.einsum("ij,bi->bj", kernel, u)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        (u, v), cost = states, inputs[0]
        return torch.einsum("bi,ij,bj->b", u, torch.exp(-cost / self.epsilon) * cost, v), u


class Barycentre(Unrolled):
    """Iterative Bregman projections: the barycentre of three histograms, with learned weights in each iteration."""

    kernel: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        points = torch.linspace(0, 1, N)
        self.register_buffer("kernel", torch.exp(-((points[:, None] - points) ** 2) / 0.05))
        self.weights = per_iteration(generator, 1.0, iterations, 3)

    def start(self, *inputs: Tensor) -> States:
        p = inputs[0]
        return torch.ones_like(p), p.mean(dim=1)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        u, p = states[0], inputs[0]
        v = p / (u @ self.kernel.T)
        image = v @ self.kernel
        weights = torch.softmax(self.weights[k], dim=0)
        centre = torch.exp((weights[:, None] * torch.log(image)).sum(dim=1))
        return centre.unsqueeze(1) / image, centre

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states[1]


class MatrixGame(Unrolled):
    """Mirror descent of both players of a game whose payoffs come at run time; the answer has the duality gap."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.eta = per_iteration(generator, 0.5, iterations)

    def start(self, *inputs: Tensor) -> States:
        payoff = inputs[0]
        x, y = torch.zeros_like(payoff[:, :, 0]), torch.zeros_like(payoff[:, 0, :])
        return x, y, torch.softmax(x, dim=1), torch.softmax(y, dim=1)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, y, mean_x, mean_y), payoff = states, inputs[0]
        row, column = torch.softmax(x, dim=1), torch.softmax(y, dim=1)
        x = x - self.eta[k] * torch.einsum("bij,bj->bi", payoff, column)
        y = y + self.eta[k] * torch.einsum("bij,bi->bj", payoff, row)
        share = single(1 / (k + 2))
        return x, y, mean_x + share * (row - mean_x), mean_y + share * (column - mean_y)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        (_, _, x, y), payoff = states, inputs[0]
        best = (x[:, None, :] @ payoff).squeeze(1).amax(dim=1)
        return x, y, best - torch.min((payoff @ y[..., None]).squeeze(2), dim=1).values


def _own_cost(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    cost = uniform(generator, 0, 1, batch, N, M)
    return cost, distribution(generator, batch, N), distribution(generator, batch, M)


def _shared_cost(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return uniform(generator, 0, 1, N, M), distribution(generator, batch, N), distribution(generator, batch, M)


def _histograms(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (distribution(generator, batch, 3, N),)


def _payoffs(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (uniform(generator, -1, 1, batch, 6, 9),)


ENTRIES: tuple[Entry, ...] = (
    Entry("sinkhorn_log", "optimal transport", "Peyre, Cuturi 2019", LogSinkhorn, _own_cost, runtime_matrix=True),
    Entry(
        "sinkhorn", "optimal transport", "Sinkhorn 1964; Cuturi 2013", Sinkhorn, _shared_cost,
        shared_inputs=(0,), runtime_matrix=True,
    ),
    Entry("barycentre", "optimal transport", "Benamou et al. 2015", Barycentre, _histograms),
    Entry("matrix_game", "games", "Nemirovski, Yudin 1983", MatrixGame, _payoffs, runtime_matrix=True),
)  # fmt: skip
