"""Chebyshev iteration: the polynomial in A of a given degree with the smallest residual on an interval."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Convergence, below, demand
from unfoldc.unfold_train.approximations.iteration_matrix import (
    Learn,
    demand_between,
    demand_count,
    diagonal,
    right_side,
)
from unfoldc.unfold_train.approximations.series import Series


class Chebyshev(Series):
    """A⁻¹b ≈ Σ sᵢ Tᵢ((A - c I)/h) b with the Chebyshev polynomials Tᵢ, c = (l + u)/2, h = (u - l)/2, i = 0 .. p.

    With q = (√u - √l)/(√u + √l), the sᵢ = (2 - δᵢ₀)(-1)ⁱ(qⁱ - q²ᵖ⁺²⁻ⁱ)/(√(lu)(1 + q²ᵖ⁺²)) make the residual the
    polynomial T of degree p + 1, scaled to 1 at 0: no other has a smaller maximum over eigenvalues in [l, u]. That is
    the answer of p + 1 steps of Chebyshev's iteration from zero. p = order cold; p = order - 1 warm, with b - A x' for
    b and x' added. The terms are scaled by cᵢ, 1 or learned from 1 on (a number, n numbers or a matrix each).

    The interval is `lower` and `upper`, or where these are None, for each A by itself, u = ‖A‖∞ and Gershgorin's lower
    bound, l = max(minᵢ(aᵢᵢ - Σⱼ|aᵢⱼ|), u/condition) with j ≠ i.

    Cost: order · n² multiply-adds for each right-hand side and as much again for each "matrix" coefficient; n
    right-hand sides for an inverse, whose first product is A itself: (order - 1) · n³ cold, order · n³ warm. With each
    product the part of an eigenvalue λ in the residual shrinks by |w + √(w² - q²)|, w = q(λ - c)/h, in the long run. It
    converges where that is below 1, for real λ in (0, l + u); in [l, u] it is q.

    Source: G. Golub and R. Varga, "Chebyshev semi-iterative methods, successive overrelaxation iterative methods, and
    second order Richardson iterative methods", Numerische Mathematik 3 (1961).
    """

    def __init__(
        self,
        order: int = 1,
        lower: float | None = None,
        upper: float | None = None,
        condition: float = 30.0,
        warm_start: bool = False,
        learn: Learn = "none",
    ) -> None:
        demand_count("Chebyshev(order=...)", order)
        for name, bound in (("lower", lower), ("upper", upper)):
            if bound is not None:
                demand_between(f"Chebyshev({name}=...)", bound, 0, float("inf"))
        if lower is not None and upper is not None:
            demand("Chebyshev(lower=..., upper=...)", "lower below upper", lower < upper, (lower, upper))
        demand_between("Chebyshev(condition=...)", condition, 1, float("inf"))
        names = {"order": order, "lower": lower, "upper": upper, "condition": condition}
        super().__init__({**names, "warm_start": warm_start, "learn": learn}, order, warm_start, learn)
        self.lower = lower
        self.upper = upper
        self.condition = condition

    def interval(self, A: Tensor) -> tuple[Tensor, Tensor]:
        """l and u, (..., 1, 1) each or (1, 1)."""
        rows = A.abs().sum(-1, keepdim=True)
        u = rows.amax(-2, keepdim=True) if self.upper is None else A.new_full((1, 1), self.upper)
        if self.lower is not None:
            return A.new_full((1, 1), self.lower), u
        D = diagonal(A)
        gershgorin = (D - (rows - D.abs())).amin(-2, keepdim=True)
        return torch.maximum(gershgorin, u / self.condition), u

    def terms(self, A: Tensor, r: Tensor | None, count: int) -> Iterator[Tensor]:
        """sᵢ Tᵢ((A - c I)/h) r with p + 1 = `count`, by the recurrence of (-q)ⁱTᵢ, which has no division by h."""
        center, slope, q2, root = _shape(*self.interval(A))
        scale = 2 / (root * (1 + q2**count))
        term = right_side(A, r)
        yield scale / 2 * (1 - q2**count) * term
        before = term
        for i in range(1, count):
            image = A if r is None and i == 1 else A @ term
            step = slope * (center * term - image)
            before, term = term, step if i == 1 else 2 * step - q2 * before
            yield scale * (1 - q2 ** (count - i)) * term

    def convergence(self, A: Tensor, b: Tensor | None = None) -> Convergence:
        """The worst factor by which a product shrinks the residual in the long run."""
        with torch.no_grad():
            A = A.double()
            center, slope, q2, _ = _shape(*self.interval(A))
            finite = torch.isfinite(A).all(-1).all(-1)
            w = slope[..., 0] * (torch.linalg.eigvals(torch.where(finite[..., None, None], A, 0)) - center[..., 0])
            root = (w * w - q2[..., 0]).sqrt()
            factor = torch.maximum((w + root).abs(), (w - root).abs()).amax(-1)
            name = "the factor of the residual for each product with A, in the long run,"
            return below(name, torch.where(finite, factor, torch.inf))


def _shape(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c, q/h, q² and √(lu)."""
    low, high = lower.sqrt(), upper.sqrt()
    total = low + high
    q = (high - low) / total
    return (lower + upper) / 2, 2 / (total * total), q * q, low * high
