"""The leading singular triplets by subspace iteration."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation, Convergence, below, demand

Triplets = tuple[Tensor, Tensor, Tensor]

# A column is taken as dependent on those before it where less than this times the precision is left of it.
_ROUNDINGS = 16.0


class TruncatedSvd(Approximation):
    """X ≈ U diag(s) Vᵀ of rank r by V ← orth(Xᵀ(X V)), then s and U from the norms and directions of X V's columns.

    U diag(s) Vᵀ = X V Vᵀ comes to the best approximation of rank r by the factor (s_{r+1}/s_r)² with each step, column
    i to its own singular vectors by (s_{i+1}/s_i)²; until then U's columns are not orthogonal. orth is Gram-Schmidt,
    each column twice; columns that depend on those before become zero, and so do their s and U. Cold, V starts from a
    fixed block of random directions; warm, from the previous answer, which in `begin` comes from `first_steps` cold
    steps.

    Cost: steps · (2 m n r + 2 n r² + n r) + m n r + 2 m r multiply-adds for X (m, n). Converges where s_{r+1} < s_r.

    Source: N. Halko, P. Martinsson and J. Tropp, "Finding structure with randomness", SIAM Review (2011), algorithm
    4.4; G. Golub and C. Van Loan, Matrix Computations, 4th edition, 8.2.4.
    """

    operations = ("svd",)

    def __init__(self, steps: int = 2, warm_start: bool = False, first_steps: int = 8) -> None:
        super().__init__(steps=steps, warm_start=warm_start, first_steps=first_steps)
        for name, found, most in (("steps", steps, 64), ("first_steps", first_steps, 256)):
            demand(
                f"TruncatedSvd({name}=...)",
                f"1 to {most}",
                type(found) is int and 1 <= found <= most,
                found,
            )
        self.steps = steps
        self.first_steps = first_steps
        self.uses_previous = warm_start

    def start(self, X: Tensor, rank: int) -> Triplets:
        """`first_steps` cold steps."""
        return self._iterate(X, _block(X, rank), self.first_steps)

    def forward(self, previous: Triplets | None, X: Tensor, rank: int) -> Triplets:  # type: ignore[override]
        """U (..., m, r), s (..., r), V (..., n, r) of X (..., m, n)."""
        V = _block(X, rank)
        if self.uses_previous and previous is not None:
            # A direction that was lost, because X once had a lower rank, begins anew.
            lost = previous[2].square().sum(-2, keepdim=True) < 0.5
            V = previous[2] + V * lost.to(X.dtype)
        return self._iterate(X, V, self.steps)

    def multiply_adds(self, X: Tensor, rank: int) -> int:
        """Of one problem."""
        return _multiply_adds(X, rank, self.steps)

    def start_multiply_adds(self, X: Tensor, rank: int) -> int:
        """Those of `first_steps` steps where it starts warm."""
        return _multiply_adds(X, rank, self.first_steps) if self.uses_previous else 0

    def convergence(self, X: Tensor, rank: int) -> Convergence:
        """s_{r+1}/s_r."""
        with torch.no_grad():
            finite = torch.isfinite(X).all(-1).all(-1)
            s = torch.linalg.svdvals(torch.where(finite[..., None, None], X, 0))
            next_one = s[..., rank] if rank < s.shape[-1] else torch.zeros_like(s[..., 0])
            last = s[..., rank - 1]
            # Below the precision of X there is no next direction.
            none = next_one <= s[..., 0] * max(X.shape[-2:]) * torch.finfo(X.dtype).eps
            ratio = torch.where(none, 0.0, next_one / last)
            return below(f"the ratio of singular values {rank + 1} and {rank}", torch.where(finite, ratio, torch.inf))

    def _iterate(self, X: Tensor, V: Tensor, steps: int) -> Triplets:
        for _ in range(steps):
            V = orthonormalise(X.mT @ (X @ V))
        W = X @ V
        square = W.square().sum(-2, keepdim=True)
        there = ~(square <= 0)  # true for NaN, which is passed on
        norm = torch.where(there, square, 1).sqrt()
        return torch.where(there, W / norm, 0), torch.where(there, norm, 0).squeeze(-2), V


def orthonormalise(A: Tensor) -> Tensor:
    """Orthonormal columns that span those of A (..., n, r); zero where a column depends on those before it."""
    tolerance = (_ROUNDINGS * torch.finfo(A.dtype).eps) ** 2
    Q: Tensor | None = None
    for j in range(A.shape[-1]):
        a = A[..., j : j + 1]
        q = a
        if Q is not None:
            # What rounding leaves along the other columns after the first time is gone after the second.
            q = q - Q @ (Q.mT @ q)
            q = q - Q @ (Q.mT @ q)
        square = q.square().sum(-2, keepdim=True)
        there = ~(square <= tolerance * a.square().sum(-2, keepdim=True))  # true for NaN, which is passed on
        q = torch.where(there, q / torch.where(there, square, 1).sqrt(), 0)
        Q = q if Q is None else torch.cat([Q, q], -1)
    assert Q is not None
    return Q


def _block(X: Tensor, rank: int) -> Tensor:
    """The fixed directions (n, r) that a cold start begins with."""
    m, n = X.shape[-2:]
    if not 1 <= rank <= min(m, n):
        raise InputError("TruncatedSvd", f"rank {rank} of a matrix {m} × {n}", f"1 to {min(m, n)}", "Correct the rank.")
    return torch.from_numpy(_directions(n, rank)).to(X).expand(*X.shape[:-2], n, rank)


@functools.cache
def _directions(n: int, rank: int) -> NDArray[np.float64]:
    drawn = np.random.default_rng([n, rank]).standard_normal((n, rank))
    return np.ascontiguousarray(np.linalg.qr(drawn)[0])


def _multiply_adds(X: Tensor, rank: int, steps: int) -> int:
    m, n = X.shape[-2:]
    others = int(np.prod(X.shape[1:-2]))
    return others * (steps * (2 * m * n * rank + 2 * n * rank * rank + n * rank) + m * n * rank + 2 * m * rank)
