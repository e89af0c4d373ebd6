"""Splittings A = D - (D - A) with a D that is cheap to invert, and the coefficients of a series in I - D⁻¹A.

Such a series converges for every b where the spectral radius of I - D⁻¹A is below 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Convergence, below

Start = Literal["identity", "norm", "diagonal"]
Learn = Literal["none", "scalar", "diagonal", "matrix"]
STARTS = ("identity", "norm", "diagonal")
LEARNS = ("none", "scalar", "diagonal", "matrix")


def inverse_diagonal(A: Tensor, start: Start) -> Tensor:
    """The diagonal of D⁻¹, (..., n, 1) or (..., 1, 1), for A (..., n, n).

    "identity" D = I; "norm" D = ‖A‖∞ I, with which a symmetric positive definite A always converges; "diagonal"
    D = diag(A), which suits diagonally dominant matrices.
    """
    if start == "identity":
        return torch.ones_like(A[..., :1, :1])
    if start == "norm":
        return 1 / A.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)
    return 1 / A.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)


def spectral_radius(A: Tensor, start: Start) -> Convergence:
    """The spectral radius of I - D⁻¹A over all problems."""
    with torch.no_grad():
        N = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - inverse_diagonal(A, start) * A
        finite = torch.isfinite(N).all(-1).all(-1)
        radius = torch.linalg.eigvals(torch.where(finite[..., None, None], N, 0)).abs().amax(-1)
        return below("the spectral radius of I - D⁻¹A", torch.where(finite, radius, torch.inf))


class Coefficients(nn.Module):
    """Factors of the terms of a series, all 1 at first: a number each, or n numbers, or an (n, n) matrix."""

    def __init__(self, count: int, learn: Learn) -> None:
        super().__init__()
        self.count = count
        self.learn = learn

    def prepare(self, A: Tensor) -> None:
        """Make the parameters for matrices like A (..., n, n)."""
        n = A.shape[-1]
        shapes = {"scalar": (1, 1), "diagonal": (n, 1), "matrix": (n, n)}
        if self.learn == "none":
            return
        one = torch.eye(n) if self.learn == "matrix" else torch.ones(shapes[self.learn])
        self.values = nn.ParameterList(nn.Parameter(one.to(A).clone()) for _ in range(self.count))

    def forward(self, i: int, term: Tensor) -> Tensor:
        """The i-th term (..., n, m), scaled."""
        if self.learn == "none":
            return term
        if not hasattr(self, "values"):
            raise InputError(
                "an approximation with learned coefficients",
                "called before it knows its size",
                "approximations that approximate() has put in place",
                "Call prepare(A) first, or use unfoldc.approximate.",
            )
        c = self.values[i]
        return c @ term if self.learn == "matrix" else c * term
