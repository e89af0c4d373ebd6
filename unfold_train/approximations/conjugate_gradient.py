"""Conjugate gradient: A⁻¹b by a fixed number of steps along conjugate directions."""

from __future__ import annotations

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, Convergence, below, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    LEARNS,
    STARTS,
    Coefficients,
    Learn,
    demand_count,
    inverse_diagonal,
    right_side,
    sizes,
)


class ConjugateGradient(Approximation):
    """x = x₀ + Σ cᵢ αᵢ pᵢ with αᵢ = rᵢᵀrᵢ / pᵢᵀA pᵢ, rᵢ₊₁ = rᵢ - αᵢ A pᵢ, pᵢ₊₁ = rᵢ₊₁ + (rᵢ₊₁ᵀrᵢ₊₁ / rᵢᵀrᵢ) pᵢ.

    Cold, x₀ is zero, or D⁻¹b as Neumann's `start` says; warm, the previous answer, which in `begin` is the result of
    the same number of plain steps. The cᵢ are 1, or learned from 1 on (number, n numbers or matrix each). They scale
    what a step adds to x and leave the directions as they are, so that the terms are conjugate and equal starts get
    different gradients. Each right-hand side has its own αᵢ. Once the residual is below a tenth of b's rounding error,
    nothing is added: an exact answer stays exact.

    Cost: steps · n² multiply-adds for each right-hand side, n² more where x₀ is not zero, and n² for each "matrix"
    coefficient; n right-hand sides for an inverse. A must be symmetric with eigenvalues above 0. The error in the norm
    of A then falls at least like 2((√κ - 1)/(√κ + 1))ⁱ, and ends after n steps but for rounding.

    Source: M. R. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. NBS
    (1952).
    """

    operations = ("solve", "inverse")

    def __init__(self, steps: int = 1, start: str = "zero", warm_start: bool = False, learn: Learn = "none") -> None:
        super().__init__(steps=steps, start=start, warm_start=warm_start, learn=learn)
        starts = ("zero", *STARTS)
        demand_count("ConjugateGradient(steps=...)", steps)
        demand("ConjugateGradient(start=...)", ", ".join(starts), start in starts, start)
        demand("ConjugateGradient(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.steps = steps
        self.kind = start
        self.uses_previous = warm_start
        self.coefficients = Coefficients(steps, learn)

    def prepare(self, A: Tensor, b: Tensor | None = None) -> None:
        """Make the coefficients."""
        self.coefficients.prepare(A)

    def start(self, A: Tensor, b: Tensor | None = None) -> Tensor:
        """As many plain steps from the cold start."""
        return self._steps(None, A, right_side(A, b), None)

    def forward(self, previous: Tensor | None, A: Tensor, b: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The answer for A (..., n, n) and b (..., n, m); A's inverse without b."""
        return self._steps(previous if self.uses_previous else None, A, right_side(A, b), self.coefficients)

    def _steps(self, x: Tensor | None, A: Tensor, b: Tensor, coefficients: Coefficients | None) -> Tensor:
        if x is None and self.kind != "zero":
            x = inverse_diagonal(A, self.kind) * b
        r = b if x is None else b - A @ x
        p, rr = r, _dot(r, r)
        number = torch.finfo(b.dtype)
        least = (number.eps / 10) ** 2 * _dot(b, b) + number.tiny
        for i in range(self.steps):
            done = rr <= least
            image = A @ p
            alpha = torch.where(done, 0, rr) / torch.where(done, 1, _dot(p, image))
            added = alpha * p if coefficients is None else coefficients(i, alpha * p)
            x = added if x is None else x + added
            r = r - alpha * image
            following = _dot(r, r)
            p = r + torch.where(done, 0, following) / torch.where(done, 1, rr) * p
            rr = following
        assert x is not None
        return x

    def multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """steps · n² · m, n² · m more from a start other than zero, and n² · m for each matrix that is learned."""
        n, m = sizes(A, b)
        products = self.steps + (self.uses_previous or self.kind != "zero")
        return products * n * n * m + self.coefficients.multiply_adds(n, m)

    def start_multiply_adds(self, A: Tensor, b: Tensor | None = None) -> int:
        """steps · n² · m, and n² · m more from a cold start other than zero."""
        n, m = sizes(A, b)
        return (self.steps + (self.kind != "zero")) * n * n * m if self.uses_previous else 0

    def convergence(self, A: Tensor, b: Tensor | None = None) -> Convergence:
        """Minus the smallest eigenvalue of A must be below 0; infinite where A is not symmetric."""
        with torch.no_grad():
            exact = A.double()
            finite = torch.isfinite(exact).all(-1).all(-1)
            # Rounding of a Gram matrix is not asymmetry.
            rounding = 10 * A.shape[-1] * torch.finfo(A.dtype).eps * exact.abs().amax((-1, -2))
            usable = finite & ((exact - exact.mT).abs().amax((-1, -2)) <= rounding)
            least = torch.linalg.eigvalsh(torch.where(usable[..., None, None], exact, 0)).amin(-1)
            name = "minus the smallest eigenvalue of A (infinite where A is not symmetric)"
            return below(name, torch.where(usable, -least, torch.inf), 0.0)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum(-2, keepdim=True)
