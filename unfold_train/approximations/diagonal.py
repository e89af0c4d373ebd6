"""The inverse of the diagonal in the place of the inverse."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, Convergence, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    LEARNS,
    Coefficients,
    Learn,
    inverse_diagonal,
    right_side,
    sizes,
    spectral_radius,
)


class Diagonal(Approximation):
    """A⁻¹b ≈ c D⁻¹b with D = diag(A): the Neumann series of order 0. c is 1, or learned from 1 on.

    Cost: n divisions and n products for each right-hand side, elementwise, not counted; n² multiply-adds for each with
    "matrix". It does not converge to anything: its relative error is about the spectral radius of I - D⁻¹A, which must
    be well below 1, as it is for Gram matrices of nearly orthogonal columns.

    Source: C. G. J. Jacobi (1845).
    """

    operations = ("solve", "inverse")

    def __init__(self, learn: Learn = "none") -> None:
        super().__init__(learn=learn)
        demand("Diagonal(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.coefficients = Coefficients(1, learn)

    def prepare(self, A: Tensor, *_: Any) -> None:
        """Make the coefficient."""
        self.coefficients.prepare(A)

    def forward(self, previous: Tensor | None, A: Tensor, b: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """D⁻¹b for A (..., n, n) and b (..., n, m); D⁻¹ without b."""
        answer: Tensor = self.coefficients(0, inverse_diagonal(A, "diagonal") * right_side(A, b))
        return answer

    def multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """n² for each right-hand side with a matrix as coefficient, else none."""
        return self.coefficients.multiply_adds(*sizes(A, b))

    def convergence(self, A: Tensor, b: Tensor | None = None) -> Convergence:
        """The spectral radius of I - D⁻¹A."""
        return spectral_radius(A, "diagonal")
