"""Robust PCA, optimal transport, and a learned optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn

import unfoldc
from speed_cases.base import Graph, States, Tensors, Unrolled, normal
from unfoldc.unfold_train.solvers import RobustPcaFromFactors

RANK, ZETA = 5, 0.5


def robust_pca(iterations: int, generator: Generator) -> nn.Module:
    """Scaled gradient steps on both factors of X ≈ L Rᵀ after a threshold of the residual; inverses are 5×5."""
    return unfoldc.unfold(
        RobustPcaFromFactors(zeta_init=ZETA), iterations=iterations, learn=["zeta", "eta"],
        example=dict(zip(("X", "L0", "R0"), _factors(50)(generator, 1), strict=True)),
    )  # fmt: skip


class PlainRobustPca(Unrolled):
    """The same steps with the inverses written out, which are no operator of ONNX."""

    index: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("index", torch.arange(RANK).reshape(RANK, 1))

    def start(self, *inputs: Tensor) -> States:
        return inputs[1], inputs[2]

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (L, R), X = states, inputs[0]
        zeta = ZETA * 0.7 ** (k + 1)
        E = torch.clamp(X - L @ R.mT, -zeta, zeta)
        return L + 0.5 * (E @ R) @ self._inverse(R.mT @ R), R + 0.5 * (E.mT @ L) @ self._inverse(L.mT @ L)

    def answer(self, states: States, *inputs: Tensor) -> Tensor:
        return states[0] @ states[1].mT

    def _inverse(self, A: Tensor) -> Tensor:
        """Gauss and Jordan's, without pivoting: A is positive definite."""
        both = torch.cat([A, (self.index == self.index.T).to(A.dtype).expand_as(A)], -1)
        for i in range(RANK):
            row = both[:, i : i + 1] / both[:, i : i + 1, i : i + 1]
            both = torch.where(self.index == i, row, both - both[:, :, i : i + 1] * row)
        return both[:, :, RANK:]


def _factors(n: int, rank: int = RANK) -> Callable[[Generator, int], Tensors]:
    """X of rank 5 with a twentieth of its entries spoilt, and factors near its own."""

    def draw(generator: Generator, batch: int) -> Tensors:
        L, R = (normal(generator, 1.0, batch, n, rank) for _ in range(2))
        spoilt = (torch.rand(batch, n, n, generator=generator) < 0.05) * normal(generator, 3.0, batch, n, n)
        starts = [f + normal(generator, 0.1, batch, n, rank) for f in (L, R)]
        return L @ R.mT + spoilt, starts[0], starts[1]

    return draw


class Sinkhorn(Unrolled):
    """u ← a / (K v), v ← b / (Kᵀu) with the constant K = exp(-cost / epsilon) (n, n); the answer is u."""

    kernel: Tensor

    def __init__(self, iterations: int, generator: Generator, n: int) -> None:
        super().__init__(iterations)
        points = torch.linspace(0, 1, n)
        self.register_buffer("kernel", torch.exp(-((points[:, None] - points) ** 2) / 0.05))

    def start(self, *inputs: Tensor) -> States:
        a, b = inputs
        return torch.ones_like(a), torch.ones_like(b)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (_, v), (a, b) = states, inputs
        u = a / (v @ self.kernel.T)
        return u, b / (u @ self.kernel)


class LstmOptimiser(Unrolled):
    """One LSTM cell for all coordinates, fed with size and sign of the gradient of ‖A x - y‖²; A (m, n) is constant."""

    A: Tensor

    def __init__(self, iterations: int, generator: Generator, m: int, n: int, hidden: int) -> None:
        super().__init__(iterations)
        A = normal(generator, m**-0.5, m, n)
        self.register_buffer("A", A / torch.linalg.matrix_norm(A, 2))
        self.cell, self.readout, self.hidden = nn.LSTMCell(2, hidden), nn.Linear(hidden, 1), hidden
        with torch.no_grad():
            for parameter in (*self.cell.parameters(), *self.readout.parameters()):
                parameter.copy_(normal(generator, 0.4, *parameter.shape))

    def start(self, *inputs: Tensor) -> States:
        x = inputs[0] @ self.A
        hidden = torch.zeros(x.shape[0] * x.shape[1], self.hidden, dtype=x.dtype)
        return torch.zeros_like(x), hidden, hidden

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, h, c = states
        g = (x @ self.A.T - inputs[0]) @ self.A
        features = torch.stack([torch.log(g.abs() + 2**-7) / 4, torch.tanh(10 * g)], -1).reshape(-1, 2)
        h, c = self.cell(features, (h, c))
        return x - 0.25 * g + 0.05 * self.readout(h).reshape(x.shape), h, c


def _histograms(generator: Generator, batch: int) -> Tensors:
    a, b = (0.1 + torch.rand(batch, 64, generator=generator) for _ in range(2))
    return a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)


def graphs() -> Iterator[Graph]:
    """The graphs of this file."""
    yield Graph("rpca-100", "robust PCA 100×100, rank 5", 8, robust_pca, _factors(100), PlainRobustPca)
    yield Graph("rpca-1000", "robust PCA 1000×1000, rank 5", 8, robust_pca, _factors(1000), PlainRobustPca)
    yield Graph("sinkhorn", "Sinkhorn, n = 64", 20, lambda k, g: Sinkhorn(k, g, 64), _histograms, matrix_vector=True)
    yield Graph(
        "lstm-optimiser", "LSTM optimiser, 16→32, 8 hidden", 8, lambda k, g: LstmOptimiser(k, g, 16, 32, 8),
        lambda generator, batch: (torch.randn(batch, 16, generator=generator),),
        dynamic=False, why_fixed="the cell sees the coordinates of all problems on one axis",
    )  # fmt: skip
