"""Large matrices with one number per diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.passes import toeplitz as module
from unfoldc.kernels.passes.toeplitz import diagonals, toeplitz_products

N = 12


def matrix(rows: int, columns: int) -> np.ndarray:
    t = np.random.default_rng((rows, columns)).standard_normal(rows + columns - 1)
    return np.asarray(t[rows - 1 - np.arange(rows)[:, None] + np.arange(columns)] / np.sqrt(columns), np.float32)


@pytest.mark.parametrize("shape", [(N, N), (N, 5), (5, N), (1, N), (N, 1)])
def test_the_numbers_are_found(shape: tuple[int, int]) -> None:
    T = matrix(*shape)
    t = diagonals(T)
    assert t is not None and t.shape == (sum(shape) - 1,)
    for i, j in np.ndindex(T.shape):
        assert t[shape[0] - 1 - i + j] == T[i, j]


def test_rounding_is_allowed_and_more_is_not() -> None:
    T = matrix(N, N)
    noise = np.random.default_rng(5).standard_normal(T.shape).astype(np.float32)
    assert diagonals(T + np.float32(2e-8) * noise) is not None
    assert diagonals(T + np.float32(1e-5) * noise) is None
    bent = T.copy()
    bent[3, 4] += np.float32(1e-4)
    assert diagonals(bent) is None
    drift = np.float32(4e-6) * np.arange(N, dtype=np.float32)[:, None] * np.abs(T).max()
    assert diagonals(T + drift) is None
    assert diagonals(np.where(T > 0, np.nan, T)) is None


@pytest.mark.parametrize("left", [False, True])
def test_products_read_them(workshop: Any, structures: Any, monkeypatch: pytest.MonkeyPatch, left: bool) -> None:
    g = workshop.Graph()
    x = g.input("x", *((N, 2) if left else ("batch", N)))
    w = g.weight("T", matrix(N, N))
    for g.k in range(3):
        x = g("Tanh", g("MatMul", *((w, x) if left else (x, w))))
    before = structures.prepared(workshop, g.model(x))
    monkeypatch.setattr(module, "_SMALLEST", 4 * N * N)
    after = structures.compared(before, toeplitz_products)
    assert [v.shape for v in after.constants.values()] == [(2 * N - 1,)]
    monkeypatch.setattr(module, "_SMALLEST", 4 * N * N + 1)
    assert toeplitz_products(before).segments == before.segments
