"""What the polynomial approximations of A⁻¹b have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, demand
from unfoldc.unfold_train.approximations.iteration_matrix import LEARNS, Coefficients, Learn, right_side, sizes


class Series(Approximation):
    """A⁻¹b by a polynomial in A: Σ cᵢ pᵢ(A) b with polynomials pᵢ of degree i = 0 .. order, `terms` of a subclass.

    Warm-started from the previous answer x', x = x' + Σ cᵢ pᵢ(A)(b - A x') with i = 0 .. order - 1. The cᵢ are 1, or
    learned from 1 on. The terms pᵢ(A) b differ, and with them the gradients of the cᵢ: equal starts separate. The
    condition for convergence is that of cᵢ = 1.

    Cost: order · n² multiply-adds for each right-hand side, and n² for each right-hand side and each "matrix"
    coefficient; elementwise work is not counted. The inverse has n right-hand sides; cold, its first product, with a
    diagonal matrix, is elementwise. A warm start begins from a cold answer of the same order, without the cᵢ.
    """

    operations = ("solve", "inverse")

    def __init__(self, options: Mapping[str, Any], order: int, warm_start: bool, learn: Learn) -> None:
        super().__init__(**options)
        name = type(self).__name__
        demand(f"{name}(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.order = order
        self.uses_previous = warm_start
        self.coefficients = Coefficients(order if warm_start else order + 1, learn)

    def terms(self, A: Tensor, r: Tensor | None, count: int) -> Iterator[Tensor]:
        """p₀(A) r, p₁(A) r, ..., `count` of them; r is None for the identity. Each after the first takes one product,
        the second for the identity none."""
        raise NotImplementedError(type(self).__name__)

    def prepare(self, A: Tensor, b: Tensor | None = None) -> None:
        """Make the coefficients."""
        self.coefficients.prepare(A)

    def start(self, A: Tensor, b: Tensor | None = None) -> Tensor:
        """The plain series of the same order."""
        first, *others = self.terms(A, b, self.order + 1)
        return sum(others, first)

    def forward(self, previous: Tensor | None, A: Tensor, b: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The series at A (..., n, n) and b (..., n, m); A's inverse without b."""
        warm = previous if self.uses_previous else None
        r = b if warm is None else right_side(A, b) - A @ warm
        scaled = [self.coefficients(i, term) for i, term in enumerate(self.terms(A, r, self.coefficients.count))]
        return sum(scaled[1:], scaled[0]) if warm is None else sum(scaled, warm)

    def multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """order · n² · m, less the one product with a diagonal matrix, plus n² · m for each matrix that is learned."""
        n, m = sizes(A, b)
        products = self.order if self.uses_previous else self._cold_products(b)
        return products * n * n * m + self.coefficients.multiply_adds(n, m)

    def start_multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """order · n² · m, less the one product with a diagonal matrix."""
        n, m = sizes(A, b)
        return self._cold_products(b) * n * n * m if self.uses_previous else 0

    def _cold_products(self, b: Tensor | None) -> int:
        return self.order if b is not None else self.order - 1
