"""Neumann series: A⁻¹b as a truncated series of products with A."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from unfoldc.unfold_train.approximations.base import Convergence, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    STARTS,
    Learn,
    Start,
    demand_count,
    inverse_diagonal,
    right_side,
    spectral_radius,
)
from unfoldc.unfold_train.approximations.series import Series


class Neumann(Series):
    """A⁻¹b = Σᵢ Nⁱ D⁻¹b with N = I - D⁻¹A, cut off after the term of the given order: order + 1 terms.

    Cold, x = Σ cᵢ Nⁱ D⁻¹b with i = 0 .. order. Warm-started from the previous answer x', i = 0 .. order - 1 and
    x = x' + Σ cᵢ Nⁱ D⁻¹(b - A x'). The cᵢ are 1, or learned from 1 on (a number, n numbers or a matrix each). The terms
    Nⁱ D⁻¹b differ, and with them the gradients of the cᵢ; in x ← x + cᵢ D⁻¹(b - A x) equal starts would stay equal.

    Cost: order · n² multiply-adds for each right-hand side and as much again for each "matrix" coefficient; n
    right-hand sides for an inverse, whose first product is elementwise: (order - 1) · n³ cold, order · n³ warm.
    Converges where the spectral radius of I - D⁻¹A is below 1. A warm start begins from a cold answer of that order.

    Source: C. Neumann, "Untersuchungen über das logarithmische und Newton'sche Potential" (1877); for MIMO detection
    Wu, Yin, Wang, Dick, Cavallaro and Studer, "Large-scale MIMO detection for 3GPP LTE", IEEE JSTSP (2014).
    """

    def __init__(
        self, order: int = 1, start: Start = "diagonal", warm_start: bool = False, learn: Learn = "none"
    ) -> None:
        demand_count("Neumann(order=...)", order)
        demand("Neumann(start=...)", ", ".join(STARTS), start in STARTS, start)
        options = {"order": order, "start": start, "warm_start": warm_start, "learn": learn}
        super().__init__(options, order, warm_start, learn)
        self.kind = start
        self.damping = 1.0

    def terms(self, A: Tensor, r: Tensor | None, count: int) -> Iterator[Tensor]:
        """D⁻¹r, N D⁻¹r, N² D⁻¹r, ..."""
        d = inverse_diagonal(A, self.kind)
        d = d if self.damping == 1.0 else self.damping * d
        term = d * right_side(A, r)
        yield term
        for i in range(1, count):
            # A D⁻¹ only scales columns.
            image = A * d.mT if r is None and i == 1 else A @ term
            term = term - d * image
            yield term

    def convergence(self, A: Tensor, b: Tensor | None = None) -> Convergence:
        """The spectral radius of I - D⁻¹A."""
        return spectral_radius(A, self.kind, self.damping)
