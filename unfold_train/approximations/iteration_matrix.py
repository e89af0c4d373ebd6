"""Splittings A = D - (D - A) with a D that is cheap to invert, and the factors that are learned.

A series in I - D⁻¹A converges for every b where its spectral radius is below 1.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Convergence, below, demand
from unfoldc.unfold_train.operations import identity_like

Start = Literal["identity", "norm", "diagonal"]
Learn = Literal["none", "scalar", "diagonal", "matrix"]
STARTS = ("identity", "norm", "diagonal")
LEARNS = ("none", "scalar", "diagonal", "matrix")


def demand_count(name: str, found: Any, least: int = 1) -> None:
    """Raise InputError where a number of steps does not fit."""
    demand(name, f"whole numbers from {least} to 64", type(found) is int and least <= found <= 64, found)


def demand_between(name: str, found: Any, low: float, high: float) -> None:
    """Raise InputError where a number does not lie strictly between two others."""
    demand(name, f"above {low:g}, below {high:g}", isinstance(found, int | float) and low < found < high, found)


def right_side(A: Tensor, b: Tensor | None) -> Tensor:
    """b (..., n, m), or the identity where A's inverse is asked for. Raises InputError where shapes do not fit."""
    n = A.shape[-1]
    if A.dim() < 2 or A.shape[-2] != n or (b is not None and (b.dim() < 2 or b.shape[-2] != n)):
        raise InputError(
            "an approximated solve or inverse",
            f"A {tuple(A.shape)}" + ("" if b is None else f", b {tuple(b.shape)}"),
            "A (..., n, n) and b (..., n, m)",
            "Correct the shapes.",
        )
    return identity_like(A) if b is None else b


def sizes(A: Tensor, b: Tensor | None) -> tuple[int, int]:
    """n and the number of right-hand sides m."""
    n = int(A.shape[-1])
    return n, n if b is None else int(b.shape[-1])


def inverse_diagonal(A: Tensor, start: str) -> Tensor:
    """The diagonal of D⁻¹, (..., n, 1) or (..., 1, 1), for A (..., n, n).

    "identity" D = I; "norm" D = ‖A‖∞ I, with which a symmetric positive definite A always converges; "diagonal"
    D = diag(A), which suits diagonally dominant matrices.
    """
    if start == "identity":
        return torch.ones_like(A[..., :1, :1])
    if start == "norm":
        return 1 / A.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)
    return 1 / diagonal(A)


def diagonal(A: Tensor) -> Tensor:
    """diag(A) as a column, (..., n, 1): every (n + 1)-th element. torch.diagonal exports as a product with I."""
    return A.flatten(-2)[..., :: A.shape[-1] + 1].unsqueeze(-1)


def spectral_radius(A: Tensor, start: str, damping: float = 1.0) -> Convergence:
    """The condition that the spectral radius of I - ωD⁻¹A is below 1."""
    with torch.no_grad():
        A = A.double()
        name = "I - D⁻¹A" if damping == 1.0 else f"I - {damping:g} D⁻¹A"
        return radius_below_1(name, identity_like(A) - damping * inverse_diagonal(A, start) * A)


def radius_below_1(name: str, N: Tensor) -> Convergence:
    """The condition that the spectral radius of the matrices N (..., n, n) is below 1; `name` says what N is."""
    finite = torch.isfinite(N).all(-1).all(-1)
    radius = torch.linalg.eigvals(torch.where(finite[..., None, None], N, 0)).abs().amax(-1)
    return below(f"the spectral radius of {name}", torch.where(finite, radius, torch.inf))


class Coefficients(nn.Module):
    """Learned factors, all 1 at first: a number each, or n numbers, or an (n, n) matrix."""

    def __init__(self, count: int, learn: Learn) -> None:
        super().__init__()
        self.count = count
        self.learn = learn

    def prepare(self, A: Tensor) -> None:
        """Make the parameters for matrices like A (..., n, n)."""
        n = A.shape[-1]
        if self.learn == "none":
            return
        shapes = {"scalar": (1, 1), "diagonal": (n, 1)}
        one = torch.eye(n) if self.learn == "matrix" else torch.ones(shapes[self.learn])
        self.values = nn.ParameterList(nn.Parameter(one.to(A).clone()) for _ in range(self.count))

    def factor(self, i: int, n: int) -> Tensor | float:
        """The i-th factor, (1, 1), (n, 1) or (n, n); 1.0 where nothing is learned."""
        if self.learn == "none":
            return 1.0
        if not hasattr(self, "values"):
            raise InputError(
                "an approximation with learned coefficients",
                "called before it knows its size",
                "approximations that approximate() has put in place",
                "Call prepare(A) first, or use unfoldc.approximate.",
            )
        found: Tensor = self.values[i]
        if found.shape[0] not in (1, n):
            raise InputError(
                f"learned coefficients, learn={self.learn!r}",
                f"made for matrices ({found.shape[0]}, {found.shape[0]}), called with ({n}, {n})",
                "matrices of one size",
                "Approximate a network whose example has the size that you need, or learn scalars.",
            )
        return found

    def forward(self, i: int, term: Tensor) -> Tensor:
        """The i-th term (..., n, m), scaled."""
        c = self.factor(i, term.shape[-2])
        if isinstance(c, float):
            return term
        return c @ term if self.learn == "matrix" else c * term

    def multiply_adds(self, n: int, m: int) -> int:
        """Multiply-adds of all factors on terms (n, m): matrices alone count, as everywhere products do."""
        return self.count * n * n * m if self.learn == "matrix" else 0
