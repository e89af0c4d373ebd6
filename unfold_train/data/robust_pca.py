"""Random problems of robust PCA: low-rank matrices with outliers."""

from __future__ import annotations

import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.problems import Problems


def robust_pca_problems(
    count: int,
    rows: int,
    columns: int | None = None,
    *,
    rank: int = 5,
    outliers: float = 0.1,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Problems:
    """Inputs X = U Vᵀ + S, (count, rows, columns), with the truth U Vᵀ.

    The entries of U (rows, rank) are N(0, 1/rows), those of V N(0, 1/columns), so that ‖U Vᵀ‖₂ is about 1. The share
    `outliers` of the entries of S is uniform in ±(the mean of |U Vᵀ|), at random places, and the rest zero. Square
    unless `columns` is given. The same seed gives the same problems in every type.

    Source: the synthetic experiment of Cai, Liu and Yin, "Learned Robust PCA" (2021).
    """
    columns = rows if columns is None else columns
    if not (count >= 1 and 1 <= rank <= min(rows, columns) and 0 <= outliers < 1):
        found = f"count={count}, rank={rank} of {rows} × {columns}, outliers={outliers}"
        allowed = "a count of 1 or more, a rank up to the smaller side, a share of outliers in [0, 1)"
        raise InputError("robust_pca_problems", found, allowed, "Correct the numbers.")
    generator = torch.Generator().manual_seed(seed)
    exact = torch.float64
    U = torch.randn(count, rows, rank, generator=generator, dtype=exact) / rows**0.5
    V = torch.randn(count, columns, rank, generator=generator, dtype=exact) / columns**0.5
    low_rank = U @ V.mT
    X = low_rank.reshape(count, -1).clone()
    for entries, size in zip(X, low_rank.abs().mean((-2, -1)), strict=True):
        where = torch.randperm(rows * columns, generator=generator)[: int(outliers * rows * columns)]
        entries[where] += size * (2 * torch.rand(len(where), generator=generator, dtype=exact) - 1)
    return Problems({"X": X.reshape(low_rank.shape).to(dtype)}, low_rank.to(dtype))


def mix_factors(L: Tensor, R: Tensor, condition: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """L T and R T⁻ᵀ with random T (r, r), another for each problem: the same L Rᵀ, but Gram matrices with condition
    numbers of about condition², if those of L and R are near 1.

    T = Q₁ diag(t) Q₂ with random orthogonal Q₁, Q₂ and t in a geometric row from 1/√condition to √condition.
    """
    if not condition >= 1:
        raise InputError("mix_factors(condition=...)", f"{condition}", "1 or more", "Correct the condition number.")
    generator = torch.Generator().manual_seed(seed)
    batch, _, r = L.shape
    Q1, Q2 = torch.linalg.qr(torch.randn(2, batch, r, r, generator=generator, dtype=torch.float64))[0]
    t = condition ** torch.linspace(-0.5, 0.5, r, dtype=torch.float64)
    T, transposed_inverse = (Q1 * t) @ Q2, (Q1 / t) @ Q2
    return L @ T.to(L), R @ transposed_inverse.to(R)
