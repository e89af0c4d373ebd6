"""Newton-Schulz iteration: A⁻¹ by products of matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, Convergence, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    LEARNS,
    STARTS,
    Coefficients,
    Learn,
    demand_count,
    inverse_diagonal,
    radius_below_1,
    right_side,
)
from unfoldc.unfold_train.operations import identity_like


class NewtonSchulz(Approximation):
    """X ← X + cᵢ X (I - A X), which squares I - A X and so doubles the number of right digits with each step.

    Cold, X starts from Aᵀ/(‖A‖₁‖A‖∞) ("transpose"), from which every regular A converges, though for a condition
    number κ only after about 2 log₂ κ steps; or from D⁻¹ as Neumann's `start` says, which is faster where it converges:
    after k steps X is the Neumann series of order 2ᵏ - 1. Warm, it starts from the previous answer, which in `begin` is
    the result of `first_steps` cold ones. The cᵢ are 1, or learned from 1 on (a number, n numbers or a matrix each).

    Cost: 2·n³ multiply-adds for each step, n³ more for each "matrix" coefficient. Converges where the spectral radius
    of I - A X₀ is below 1; with a warm start that holds as long as A changes little between iterations.

    Source: G. Schulz, "Iterative Berechnung der reziproken Matrix", ZAMM 13 (1933); the start "transpose" is
    Ben-Israel and Cohen's, "On iterative computation of generalized inverses and associated projections" (1966).
    """

    operations = ("inverse",)

    def __init__(
        self,
        steps: int = 1,
        warm_start: bool = False,
        first_steps: int = 16,
        start: str = "transpose",
        learn: Learn = "none",
    ) -> None:
        super().__init__(steps=steps, warm_start=warm_start, first_steps=first_steps, start=start, learn=learn)
        starts = ("transpose", *STARTS)
        demand_count("NewtonSchulz(steps=...)", steps)
        demand_count("NewtonSchulz(first_steps=...)", first_steps, 0)
        demand("NewtonSchulz(start=...)", ", ".join(starts), start in starts, start)
        demand("NewtonSchulz(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.steps = steps
        self.first_steps = first_steps
        self.kind = start
        self.uses_previous = warm_start
        self.coefficients = Coefficients(steps, learn)

    def prepare(self, A: Tensor, *_: Any) -> None:
        """Make the coefficients."""
        self.coefficients.prepare(A)

    def start(self, A: Tensor) -> Tensor:
        """`first_steps` cold steps."""
        X = self._cold(A)
        for _ in range(self.first_steps):
            X = X + X @ (right_side(A, None) - A @ X)
        return X

    def forward(self, previous: Tensor | None, A: Tensor) -> Tensor:  # type: ignore[override]
        """The inverse of A (..., n, n)."""
        X = previous if self.uses_previous and previous is not None else self._cold(A)
        for i in range(self.steps):
            X = X + self.coefficients(i, X @ (right_side(A, None) - A @ X))
        return X

    def multiply_adds(self, A: Tensor) -> int:
        """2 · n³ · steps, and n³ for each matrix that is learned."""
        n = int(A.shape[-1])
        return 2 * n**3 * self.steps + self.coefficients.multiply_adds(n, n)

    def start_multiply_adds(self, A: Tensor) -> int:
        """2 · n³ · first_steps."""
        return 2 * int(A.shape[-1]) ** 3 * self.first_steps if self.uses_previous else 0

    def convergence(self, A: Tensor) -> Convergence:
        """The spectral radius of I - A X₀ with the cold start X₀; k steps raise it to the power 2ᵏ."""
        with torch.no_grad():
            A = A.double()
            return radius_below_1("I - A X₀", identity_like(A) - A @ self._cold(A))

    def _cold(self, A: Tensor) -> Tensor:
        if self.kind == "transpose":
            size = A.abs()
            rows, columns = size.sum(-1, keepdim=True), size.sum(-2, keepdim=True)
            return A.mT / (columns.amax(-1, keepdim=True) * rows.amax(-2, keepdim=True))
        return right_side(A, None) * inverse_diagonal(A, self.kind)
