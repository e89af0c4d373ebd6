"""Finite differences, smoothing and other matrices of few diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes.banded import band, banded_products
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program

N, K = 16, 3
I = np.eye(N)  # noqa: E741


def diagonals(offsets: range, rows: int = N, columns: int = N) -> np.ndarray:
    """Random numbers on these diagonals."""
    place = np.arange(columns) - np.arange(rows)[:, None]
    numbers = np.random.default_rng((rows, columns, len(offsets))).standard_normal((rows, columns))
    return np.where((place >= offsets.start) & (place < offsets.stop), numbers, 0) / 3


DIFFERENCES = np.diff(I, axis=0)
# The matrix, its first diagonal, and the shape of what is stored.
BANDS: dict[str, tuple[np.ndarray, int, tuple[int, int]]] = {
    "identity": (0.5 * I, 0, (1, 1)),
    "diagonal": (np.diag(1.0 + np.arange(N)) / N, 0, (1, N)),
    "differences": (DIFFERENCES, 0, (2, 1)),
    "their adjoint": (DIFFERENCES.T, -1, (2, 1)),
    "second differences": (I - 0.2 * DIFFERENCES.T @ DIFFERENCES, -1, (3, N)),
    "filter": (0.5 * I + 0.25 * np.eye(N, k=1) + 0.25 * np.eye(N, k=-1), -1, (3, 1)),
    "lower": (diagonals(range(-2, 1)), -2, (3, N)),
    "square": (diagonals(range(-1, 3)), -1, (4, N)),
    "wide": (diagonals(range(3), N - 2), 0, (3, N - 2)),
    "tall": (diagonals(range(-2, 1), N + 2), -2, (3, N + 2)),
}
OTHERS = {
    "dense": np.random.default_rng(3).standard_normal((N, N)),
    "wide band": diagonals(range(-2, 3)),
    "short": np.eye(6),
    "zero": 0 * I,
    "not finite": np.where(I > 0, np.inf, 0),
    "a column nobody reads": np.eye(N, k=1),
    "columns beyond": np.eye(N - 4, N),
    "a corner": I + np.eye(N, k=N - 1),
}


@pytest.mark.parametrize("name", BANDS)
def test_diagonals_are_found(name: str) -> None:
    T, low, shape = BANDS[name]
    found = band(T)
    assert found is not None and (found.low, found.D.shape) == (low, shape)
    place = np.arange(T.shape[0])[:, None] + low + np.arange(shape[0])
    again = np.zeros((T.shape[0], T.shape[1] + 2 * N))
    np.put_along_axis(again, place + N, np.broadcast_to(found.D.T, place.shape), 1)
    np.testing.assert_array_equal(again[:, N:-N], T)


@pytest.mark.parametrize("name", OTHERS)
def test_other_matrices_are_left_alone(name: str) -> None:
    assert band(OTHERS[name]) is None


def solver(workshop: Any, structures: Any, T: np.ndarray, form: str) -> Program:
    """x <- x - tanh(T' tanh(T x)) / 2 + y."""
    g = workshop.Graph()
    shape = {"left": (N, 3), "vector": (N,), "batched": ("batch", N, 2)}.get(form, ("batch", N))
    y = x = g.input("y", *shape)
    half, w, adjoint = g.weight("half", 0.5), g.weight("T", T), g.weight("T'", T.T)
    for g.k in range(K):
        if form == "right":
            z = g("MatMul", g("Tanh", g("MatMul", x, adjoint)), w)
        elif form == "gemm":
            z = g("Gemm", g("Tanh", g("Gemm", x, w, transB=1)), w, y, alpha=0.5, beta=0.5)
        else:
            z = g("MatMul", adjoint, g("Tanh", g("MatMul", w, x)))
        x = g("Add", g("Sub", x, g("Mul", half, g("Tanh", z))), y)
    program: Program = structures.prepared(workshop, g.model(x))
    return program


@pytest.mark.parametrize("form", ["right", "left", "vector", "batched", "gemm"])
@pytest.mark.parametrize("name", [n for n in BANDS if BANDS[n][0].shape[1] == N])
def test_products_compute_those_alone(workshop: Any, structures: Any, name: str, form: str) -> None:
    """A tall matrix has a wide adjoint, whose first and last columns are read by one row each."""
    before = solver(workshop, structures, BANDS[name][0], form)
    after = structures.compared(before, banded_products, limit=1e-14)
    assert not {"MatMul", "Gemm"} & {*structures.operators(after)}
    assert cost(after).iterate_flops[0] < 0.6 * cost(before).iterate_flops[0]


def test_what_is_not_finite_is_seen(workshop: Any, structures: Any) -> None:
    before = solver(workshop, structures, BANDS["filter"][0], "right")
    after = banded_products(before)
    for place in (0, 7, N - 1):
        y = np.random.default_rng(place).standard_normal((1, N)).astype(np.float32)
        y[0, place] = np.nan
        with np.errstate(all="ignore"):
            found, wanted = (evaluate(p, {"y": y}, iterations=1)[0][0] for p in (after, before))
        assert np.isnan(wanted).all() and np.isnan(found[place])
        assert np.isfinite(found).sum() == N - (5 if place == 7 else 3)
