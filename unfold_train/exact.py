"""The exact operations that a solver calls: what `approximate` replaces and what an exact solver runs.

Matrices are (..., n, n), right-hand sides (..., n, m). A matrix that cannot be inverted raises InputError, except while
the solver is traced for export, where no decision may depend on numbers; the compiled solver then gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unfoldc.errors import InputError


def factor(A: Tensor, definite: bool) -> Any:
    """What of A⁻¹ can be computed before b is known: the Cholesky factor, or A itself where only LU would do."""
    if not definite:
        return A
    L, info = torch.linalg.cholesky_ex(A)
    if not torch.compiler.is_compiling() and bool((info != 0).any()):
        raise InputError(
            "solve(definite=True)",
            f"{int((info != 0).sum())} of {info.numel()} matrices are not positive definite",
            "symmetric positive definite matrices",
            "Add a multiple of the identity, or leave out definite=True.",
        )
    return L


def solve(factored: Any, b: Tensor, definite: bool) -> Tensor:
    """A⁻¹b from what `factor` gave; never forms the inverse."""
    if definite:
        forward = torch.linalg.solve_triangular(factored, b, upper=False)
        backward: Tensor = torch.linalg.solve_triangular(factored.mT, forward, upper=True)
        return backward
    answer: Tensor
    answer, info = torch.linalg.solve_ex(factored, b)
    _demand_regular("solve", info)
    return answer


def inverse(A: Tensor) -> Tensor:
    """A⁻¹."""
    answer: Tensor
    answer, info = torch.linalg.inv_ex(A)
    _demand_regular("inverse", info)
    return answer


def svd(X: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The leading `rank` singular triplets of X (..., m, n): U (..., m, r), s (..., r), V (..., n, r)."""
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    return U[..., :rank], s[..., :rank], Vh[..., :rank, :].mT


ELEMENTWISE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
}
OPERATIONS = ("solve", "inverse", "svd", *ELEMENTWISE, "block")


def _demand_regular(operation: str, info: Tensor) -> None:
    if not torch.compiler.is_compiling() and bool((info != 0).any()):
        raise InputError(
            operation,
            f"{int((info != 0).sum())} of {info.numel()} matrices are singular",
            "matrices that can be inverted",
            "Correct the data, or add a multiple of the identity.",
        )
