"""Gauss-Seidel sweeps and successive over-relaxation (SOR): A⁻¹b by substitutions with A's lower triangle."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, Convergence, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    STARTS,
    Coefficients,
    demand_between,
    demand_count,
    diagonal,
    inverse_diagonal,
    radius_below_1,
    right_side,
    sizes,
)
from unfoldc.unfold_train.operations import identity_like

Learn = Literal["none", "scalar", "diagonal"]
LEARNS = ("none", "scalar", "diagonal")


class GaussSeidel(Approximation):
    """(D + ωᵢL) x ← ωᵢ(b - U x) + (1 - ωᵢ) D x with A = L + D + U; ω = 1 is Gauss-Seidel, x ← (D + L)⁻¹(b - U x).

    Cold, x starts from D⁻¹b as Neumann's `start` says, or from "zero"; warm, from the previous answer, which in `begin`
    is the result of the same number of plain sweeps. The ωᵢ equal `relaxation`, or are learned from it on, for each
    sweep one number or n numbers. Inside the substitution they get different gradients; as a factor of the whole
    step, x ← x + ωᵢ(D + L)⁻¹(b - A x), equal starts would stay equal.

    Cost for each sweep and right-hand side: n² multiply-adds for U x, run as a full product, and n(n + 1)/2 for the
    substitution, one for each element of the triangle; the first sweep from "zero" has no product. n right-hand sides
    for an inverse. Converges where the spectral radius of (D + ωL)⁻¹((1 - ω)D - ωU) is below 1: for every symmetric
    positive definite A with 0 < ω < 2.

    Source: P. L. von Seidel, "Ueber ein Verfahren, die Gleichungen, auf welche die Methode der kleinsten Quadrate
    führt, ... durch successive Annäherung aufzulösen" (1874); D. M. Young, "Iterative methods for solving partial
    difference equations of elliptic type", Trans. AMS 76 (1954); the condition: A. M. Ostrowski (1954).
    """

    operations = ("solve", "inverse")

    def __init__(
        self,
        sweeps: int = 1,
        start: str = "diagonal",
        relaxation: float = 1.0,
        warm_start: bool = False,
        learn: Learn = "none",
    ) -> None:
        super().__init__(sweeps=sweeps, start=start, relaxation=relaxation, warm_start=warm_start, learn=learn)
        starts = ("zero", *STARTS)
        demand_count("GaussSeidel(sweeps=...)", sweeps)
        demand("GaussSeidel(start=...)", ", ".join(starts), start in starts, start)
        demand_between("GaussSeidel(relaxation=...)", relaxation, 0, 2)
        demand("GaussSeidel(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.sweeps = sweeps
        self.kind = start
        self.relaxation = float(relaxation)
        self.uses_previous = warm_start
        self.coefficients = Coefficients(sweeps, learn)

    def prepare(self, A: Tensor, b: Tensor | None = None) -> None:
        """Make the relaxation factors."""
        self.coefficients.prepare(A)

    def start(self, A: Tensor, b: Tensor | None = None) -> Tensor:
        """As many sweeps from the cold start, with the plain `relaxation`."""
        return self._sweep(None, A, right_side(A, b), [self.relaxation] * self.sweeps)

    def forward(self, previous: Tensor | None, A: Tensor, b: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The answer for A (..., n, n) and b (..., n, m); A's inverse without b."""
        factors = [self.relaxation * self.coefficients.factor(i, A.shape[-1]) for i in range(self.sweeps)]
        return self._sweep(previous if self.uses_previous else None, A, right_side(A, b), factors)

    def _sweep(self, x: Tensor | None, A: Tensor, b: Tensor, factors: list[Tensor | float]) -> Tensor:
        lower, upper, D = A.tril(-1), A.triu(1), diagonal(A)
        if x is None and self.kind != "zero":
            x = inverse_diagonal(A, self.kind) * b
        for w in factors:
            plain = isinstance(w, float) and w == 1.0
            if x is None:
                right = w * b
            elif plain:
                right = b - upper @ x
            else:
                right = w * (b - upper @ x) + (1 - w) * D * x
            matrix = A.tril() if plain else w * lower + identity_like(A) * D
            x = torch.linalg.solve_triangular(matrix, right, upper=False)
        assert x is not None
        return x

    def multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """sweeps · (n² + n(n + 1)/2) · m, less n² · m where a cold start is "zero"."""
        n, m = sizes(A, b)
        return self._cold(n, m) if not self.uses_previous else self.sweeps * (n * n + n * (n + 1) // 2) * m

    def start_multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """Those of as many cold sweeps."""
        return self._cold(*sizes(A, b)) if self.uses_previous else 0

    def _cold(self, n: int, m: int) -> int:
        products = self.sweeps - 1 if self.kind == "zero" else self.sweeps
        return (products * n * n + self.sweeps * (n * (n + 1) // 2)) * m

    def convergence(self, A: Tensor, b: Tensor | None = None) -> Convergence:
        """The spectral radius of a sweep's iteration matrix, with the plain `relaxation`."""
        with torch.no_grad():
            A, w = A.double(), self.relaxation
            D = identity_like(A) * diagonal(A)
            right = (1 - w) * D - w * A.triu(1)
            matrix = D + w * A.tril(-1)
            return radius_below_1(
                "(D + ωL)⁻¹((1 - ω)D - ωU)", torch.linalg.solve_triangular(matrix, right, upper=False)
            )
