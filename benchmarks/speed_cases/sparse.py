"""Sparse recovery and quadratic programs: products with constant matrices and a threshold or a clamp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

import unfoldc
from speed_cases.base import Graph, States, Tensors, Unrolled, normal, soft
from unfoldc.unfold_train.solvers import Lista
from unfoldc.unfold_train.solvers.fista import momentum

Make = Callable[[int, Generator], nn.Module]


def lista(m: int, n: int, tied: bool) -> Make:
    """x ← soft(W2 x + W1 y, theta_k), W1 (n, m) and W2 (n, n) near the classical values, as after training."""

    def make(iterations: int, generator: Generator) -> nn.Module:
        A = normal(generator, m**-0.5, m, n)
        matrices = ["W1", "W2"]
        network = unfoldc.unfold(
            Lista(A=A, rho=0.1), iterations=iterations, learn=[*matrices, "theta"], tied=matrices if tied else False
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 + 0.01 * torch.randn(parameter.shape, generator=generator))
        return network

    return make


class FistaGram(Unrolled):
    """x ← soft(w - mu (G w - Aᵀy), theta), w ← x + beta_k (x - x before), with the Gram matrix G = AᵀA (n, n)."""

    A: Tensor
    G: Tensor

    def __init__(self, iterations: int, generator: Generator, m: int, n: int) -> None:
        super().__init__(iterations)
        A = normal(generator, m**-0.5, m, n)
        self.mu = float(1 / torch.linalg.matrix_norm(A, 2) ** 2)
        self.theta = 0.1 * self.mu
        self.register_buffer("A", A)
        self.register_buffer("G", A.T @ A)

    def start(self, *inputs: Tensor) -> States:
        matched = inputs[0] @ self.A
        zero = torch.zeros_like(matched)
        return zero, zero, matched

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        before, w, matched = states
        x = soft(w - self.mu * (w @ self.G - matched), self.theta)
        return x, x + momentum(k) * (x - before), matched


class AdmmLasso(Unrolled):
    """x ← M (Aᵀy + rho (z - u)), z ← soft(x + u, theta), u ← u + x - z; M = (AᵀA + rho I)⁻¹ (n, n) is constant."""

    A: Tensor
    M: Tensor
    rho = 0.5

    def __init__(self, iterations: int, generator: Generator, m: int, n: int) -> None:
        super().__init__(iterations)
        A = normal(generator, m**-0.5, m, n)
        self.register_buffer("A", A)
        self.register_buffer("M", torch.linalg.inv((A.T @ A).double() + self.rho * torch.eye(n).double()).float())

    def start(self, *inputs: Tensor) -> States:
        matched = inputs[0] @ self.A
        zero = torch.zeros_like(matched)
        return zero, zero, matched

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        z, u, matched = states
        moved = u + (matched + self.rho * (z - u)) @ self.M
        z = soft(moved, 0.1)
        return z, moved - z, matched


class PredictiveControl(Unrolled):
    """min over u of uᵀP u / 2 + (F s)ᵀu with |u_i| ≤ 1 by ADMM, for the state s of a plant; P (n, n) is condensed.

    The plant: a chain of four masses with eight states and two forces, a horizon of 20, so that n = 40.
    """

    F: Tensor
    M: Tensor
    rho, relaxation, horizon = 0.5, 1.6, 20

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        P, F = _condensed(self.horizon)
        n = P.shape[0]
        self.register_buffer("F", F.float())
        self.register_buffer("M", torch.linalg.inv(P + self.rho * torch.eye(n).double()).float())

    def start(self, *inputs: Tensor) -> States:
        linear = inputs[0] @ self.F.T
        zero = torch.zeros_like(linear)
        return zero, zero, linear

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        z, dual, linear = states
        u = (self.rho * (z - dual) - linear) @ self.M
        moved = dual + self.relaxation * u + (1 - self.relaxation) * z
        z = torch.clamp(moved, -1.0, 1.0)
        return z, moved - z, linear


def _condensed(horizon: int, masses: int = 4, dt: float = 0.3) -> tuple[Tensor, Tensor]:
    """P (horizon · 2, horizon · 2) and F (horizon · 2, 8) in float64: states taken out of the quadratic program."""
    springs = -2 * torch.eye(masses) + torch.diag(torch.ones(masses - 1), 1) + torch.diag(torch.ones(masses - 1), -1)
    zero, eye = torch.zeros(masses, masses), torch.eye(masses)
    forces = torch.zeros(2 * masses, 2)
    forces[masses, 0] = forces[2 * masses - 1, 1] = 1.0
    continuous = torch.cat([torch.cat([zero, eye], 1), torch.cat([springs, -0.1 * eye], 1)]).double()
    A = torch.linalg.matrix_exp(dt * continuous)
    B = dt * A @ forces.double()
    powers = [torch.linalg.matrix_power(A, k) for k in range(horizon + 1)]
    blank = torch.zeros_like(B)
    rows = [[powers[i - j] @ B if j <= i else blank for j in range(horizon)] for i in range(horizon)]
    G = torch.cat([torch.cat(row, 1) for row in rows])
    H = torch.cat(powers[1:])
    return G.T @ G + 0.1 * torch.eye(G.shape[1]).double(), G.T @ H


def vectors(m: int) -> Callable[[Generator, int], Tensors]:
    """Measurements y (batch, m)."""
    return lambda generator, batch: (torch.randn(batch, m, generator=generator),)


def _lista(m: int, n: int, tied: bool, iterations: int) -> Graph:
    kind = "tied" if tied else "untied"
    return Graph(
        f"lista-{m}-{n}-{kind}", f"LISTA {m}→{n}, {kind}", iterations, lista(m, n, tied), vectors(m), matrix_vector=True
    )


def scaled(name: str) -> Graph:
    """The tied LISTA of a name like lista-12-24-tied-k16: 12 measurements, 24 unknowns, 16 iterations."""
    _, m, n, _, k = name.split("-")
    graph = _lista(int(m), int(n), True, int(k.removeprefix("k")))
    return replace(graph, name=name)


def graphs() -> Iterator[Graph]:
    """The graphs of this file."""
    yield _lista(8, 16, True, 32)
    yield _lista(8, 16, False, 8)
    yield _lista(32, 64, True, 16)
    yield _lista(32, 64, False, 16)
    yield _lista(250, 500, True, 16)
    yield _lista(250, 500, False, 8)
    yield Graph(
        "fista", "FISTA, Gram matrix, 64→128", 32, lambda k, g: FistaGram(k, g, 64, 128), vectors(64),
        matrix_vector=True,
    )  # fmt: skip
    yield Graph(
        "admm-lasso", "ADMM-LASSO, 32→64", 32, lambda k, g: AdmmLasso(k, g, 32, 64), vectors(32), matrix_vector=True
    )
    yield Graph("mpc", "MPC by box-ADMM, 8→40", 32, PredictiveControl, vectors(8), matrix_vector=True)
