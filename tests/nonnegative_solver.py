"""A small solver that calls every kind of operation, and its twin in NumPy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unfoldc.unfold_train import Derived, Hyper, Input, Objective, Problems, Solver, View
from unfoldc.unfold_train.operations import apply, apply_adjoint
from unfoldc.unfold_train.values import Value


class NonNegative(Solver):
    """ADMM for min over x ≥ 0 of ½‖y - A x‖²: M = AᵀA + rho I, x ← M⁻¹(Aᵀy + rho(z - u)), z ← max(x + u, 0)."""

    y = Input("m")
    A: Value = Objective("m", "n")
    rho = Hyper(lambda v: v.number(0.5), positive=True)
    G = Derived(lambda v: v.A.mT @ v.A, "n", "n")
    M = Derived(lambda v: v.G + v.rho * torch.eye(v.A.shape[-1], dtype=v.A.dtype), "n", "n")
    f = Derived(lambda v: apply_adjoint(v.A, v.y), "n")

    def init(self, v: View) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(v.f)
        return zero, zero

    def solved(self, v: View, b: Tensor) -> Tensor:
        return v.solve(v.M, b, definite=True)

    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        z, u = state
        x = self.solved(v, v.f + v.rho * (z - u))
        z = torch.relu(x + u)
        return z, u + x - z

    def output(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        return state[0]


class ByInverse(NonNegative):
    """The same by the inverse."""

    def solved(self, v: View, b: Tensor) -> Tensor:
        return apply(v.inverse(v.M), b)


def problems(count: int, m: int = 12, n: int = 5, seed: int = 0, each: bool = True) -> Problems:
    """y = A x + noise with x ≥ 0, float64; a matrix for each problem, or one for all."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = normal(*((count,) if each else ()), m, n) / m**0.5
    x = torch.relu(normal(count, n))
    y = apply(A, x) + 0.05 * normal(count, m)
    return Problems({"y": y, "A": A}, x)


def admm(y: np.ndarray, A: np.ndarray, rho: list[float]) -> list[np.ndarray]:
    """All iterates of one problem."""
    z = u = np.zeros(A.shape[1])
    found = []
    for r in rho:
        x = np.linalg.solve(A.T @ A + r * np.eye(A.shape[1]), A.T @ y + r * (z - u))
        z, u = np.maximum(x + u, 0), u + x - np.maximum(x + u, 0)
        found.append(z)
    return found
