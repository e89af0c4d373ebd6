"""Neumann series: A⁻¹b as a truncated series of products with A."""

from __future__ import annotations

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, Convergence, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    LEARNS,
    STARTS,
    Coefficients,
    Learn,
    Start,
    inverse_diagonal,
    spectral_radius,
)


class Neumann(Approximation):
    """A⁻¹b = Σᵢ Nⁱ D⁻¹b with N = I - D⁻¹A, cut off after the term of the given order.

    Cold, x = Σ cᵢ Nⁱ D⁻¹b with i = 0 .. order. Warm-started from the previous answer x', x = x' + Σ cᵢ Nⁱ D⁻¹(b - A x')
    with i = 0 .. order - 1. The cᵢ are 1, or learned from 1 on (a number, n numbers or a matrix each). The terms Nⁱ D⁻¹b
    differ, and with them the gradients of the cᵢ; in the form x ← x + cᵢ D⁻¹(b - A x) equal starts would stay equal.

    Cost: order · n² multiply-adds for each right-hand side and as much again for "matrix" coefficients; n right-hand
    sides for an inverse. Converges where the spectral radius of I - D⁻¹A is below 1. A warm start begins from a cold
    answer of the same order.

    Source: C. Neumann (1877); for MIMO detection Wu et al., "Large-scale MIMO detection for 3GPP LTE" (2014).
    """

    operations = ("solve", "inverse")

    def __init__(
        self, order: int = 1, start: Start = "diagonal", warm_start: bool = False, learn: Learn = "none"
    ) -> None:
        super().__init__(order=order, start=start, warm_start=warm_start, learn=learn)
        demand("Neumann(order=...)", "1 to 64", 1 <= order <= 64, order)
        demand("Neumann(start=...)", ", ".join(STARTS), start in STARTS, start)
        demand("Neumann(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.order = order
        self.kind = start
        self.uses_previous = warm_start
        self.coefficients = Coefficients(order if warm_start else order + 1, learn)

    def prepare(self, A: Tensor, b: Tensor | None = None) -> None:
        """Make the coefficients."""
        self.coefficients.prepare(A)

    def start(self, A: Tensor, b: Tensor | None = None) -> Tensor:
        """The plain series of the same order."""
        d = inverse_diagonal(A, self.kind)
        term = d * _right_side(A, b)
        x = term
        for _ in range(self.order):
            term = term - d * (A @ term)
            x = x + term
        return x

    def forward(self, previous: Tensor | None, A: Tensor, b: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The series at A (..., n, n) and b (..., n, m); A's inverse without b."""
        d = inverse_diagonal(A, self.kind)
        b = _right_side(A, b)
        warm = self.uses_previous and previous is not None
        term = d * (b - A @ previous) if warm else d * b
        x = self.coefficients(0, term)
        x = previous + x if warm else x
        for i in range(1, self.coefficients.count):
            term = term - d * (A @ term)
            x = x + self.coefficients(i, term)
        return x

    def convergence(self, A: Tensor, b: Tensor | None = None) -> Convergence:
        """The spectral radius of I - D⁻¹A."""
        return spectral_radius(A, self.kind)


def _right_side(A: Tensor, b: Tensor | None) -> Tensor:
    return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) if b is None else b
