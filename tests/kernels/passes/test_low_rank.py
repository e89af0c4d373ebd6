"""I - mu AᵀA and its kind: what is found, what is left alone, and what it is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes import low_rank as module
from unfoldc.kernels.passes.low_rank import low_rank, low_rank_products
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program

N, RANK = 24, 4
rng = np.random.default_rng(0)
A = rng.standard_normal((RANK, N)) / np.sqrt(RANK)
B = rng.standard_normal((N, RANK)) / np.sqrt(N)
MU = 1 / np.linalg.norm(A, 2) ** 2
I = np.eye(N)  # noqa: E741
DENSE = rng.standard_normal((N, N)) / np.sqrt(N)
# The matrix, and what its diagonal must be found as: a number, "none", or "vector".
FOUND: dict[str, tuple[np.ndarray, float | str]] = {
    "gradient step": (I - MU * A.T @ A, 1.0),
    "learned step": (I - 0.3 * B @ A, 1.0),
    "other multiple": (0.7 * I - 0.3 * B @ A, 0.7),
    "inverse": (np.linalg.inv(A.T @ A + 0.1 * I), 10.0),
    "negative": (-2.0 * I + B @ A, -2.0),
    "diagonal": (np.diag(1 + rng.random(N)) - 0.3 * B @ A, "vector"),
    "plain": (B @ A, "none"),
    "mixed signs": (I - MU * A[:2].T @ A[:2] + MU * A[2:].T @ A[2:], 1.0),
    "rows": (B @ A[:, :20], "none"),
    "rank one": (I - np.outer(B[:, 0], A[0]), 1.0),
}


def spectral(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FOUND)
def test_structure_is_found(name: str, dtype: str) -> None:
    T, d = FOUND[name][0].astype(dtype), FOUND[name][1]
    found = low_rank(T)
    assert found is not None and len(found.signs) <= RANK
    assert spectral(found.matrix() - T) <= {"float32": 2e-7, "float64": 2e-14}[dtype] * spectral(T)
    if isinstance(d, float):
        assert found.d is not None and found.d.ndim == 0 and abs(found.d - d) <= 1e-6 * abs(d)
    else:
        assert (found.d is None) == (d == "none") and (found.d is None or found.d.shape == (N,))
    # A symmetric matrix needs one factor.
    assert (found.V is None) == (name in ("gradient step", "inverse", "mixed signs"))


@pytest.mark.parametrize(
    "T",
    [
        DENSE,
        I - 0.1 * DENSE,
        I - MU * A.T @ A + 1e-5 * DENSE,
        I - DENSE[:, :12] @ DENSE[:12],
        I,
        np.zeros((N, N)),
        (B @ A)[:4],
        np.where(I > 0, np.nan, B @ A),
    ],
    ids=["dense", "near the identity", "nearly", "high rank", "identity", "zero", "few rows", "nan"],
)
def test_other_matrices_are_left_alone(T: np.ndarray) -> None:
    assert low_rank(T.astype(np.float32)) is None


def test_numbers_whose_squares_overflow_are_left_alone() -> None:
    assert low_rank(1e155 * (B @ A)) is None


def test_the_share_of_the_work_that_must_go_is_a_parameter() -> None:
    T = (I - MU * A.T @ A).astype(np.float32)
    share = (2 * RANK * N + N) / N**2
    assert low_rank(T, worth=share + 0.01) is not None
    assert low_rank(T, worth=share - 0.01) is None


def solver(workshop: Any, structures: Any, T: np.ndarray, form: str, K: int = 3) -> Program:
    """x <- soft(T x + y) in one of the ways that exporters write it."""
    g = workshop.Graph()
    rows = {"vector": (N,), "columns": (N, 2), "batched": ("batch", N, 2)}.get(form, ("batch", N))
    y = x = g.input("y", *rows)
    right = form in ("right", "gemm", "gemm, transposed")
    w = g.weight("T", T.T if right and form != "gemm, transposed" else T)
    for g.k in range(K):
        if form == "right":
            z = g("Add", g("MatMul", x, w), y)
        elif form.startswith("gemm"):
            z = g("Gemm", x, w, y, alpha=0.5, beta=0.25, transB=int(form != "gemm"))
        elif form == "view":
            z = g("Add", g("MatMul", x, g("Transpose", w, perm=[1, 0])), y)
        else:
            z = g("Add", g("MatMul", w, x), y)
        x = g.soft(z, g.weight("theta", 0.05))
    program: Program = structures.prepared(workshop, g.model(x))
    return program


@pytest.mark.parametrize("form", ["right", "view", "gemm", "gemm, transposed", "vector", "columns", "batched"])
def test_products_in_any_form(workshop: Any, structures: Any, form: str) -> None:
    before = solver(workshop, structures, FOUND["learned step"][0], form)
    after = structures.compared(before, low_rank_products)
    assert cost(after).iterate_flops[0] < 0.8 * cost(before).iterate_flops[0]
    assert sum(v.nbytes for v in after.constants.values()) < 0.6 * sum(v.nbytes for v in before.constants.values())


@pytest.mark.parametrize("name", [name for name in FOUND if name != "rows"])
def test_each_kind_of_diagonal(workshop: Any, structures: Any, name: str) -> None:
    T = FOUND[name][0]
    before = solver(workshop, structures, T / spectral(T), "right")
    after = structures.compared(before, low_rank_products)
    assert structures.operators(after).count("MatMul") == 2
    more = structures.operators(after).count("Mul") - structures.operators(before).count("Mul")
    assert more == {"gradient step": 0, "inverse": 0, "plain": 0, "mixed signs": 2}.get(name, 1)


def test_what_is_not_finite_stays_so(workshop: Any, structures: Any) -> None:
    before = solver(workshop, structures, FOUND["gradient step"][0], "right", K=2)
    after = low_rank_products(before)
    for value in (np.nan, np.inf):
        y = np.zeros((1, N), np.float32)
        y[0, 3] = value
        with np.errstate(all="ignore"):
            found, wanted = (evaluate(p, {"y": y})[0] for p in (after, before))
        assert not np.isfinite(wanted).any() and not np.isfinite(found).any()


def test_large_matrices_and_much_work_are_skipped(
    workshop: Any, structures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = solver(workshop, structures, FOUND["gradient step"][0], "right")
    monkeypatch.setattr(module, "_WORK", N**3 - 1)
    assert low_rank_products(before).segments == before.segments
    monkeypatch.setattr(module, "_WORK", N**3)
    assert low_rank_products(before).segments != before.segments
