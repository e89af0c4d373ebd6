"""One matrix and a number per iteration, found in stacks of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.passes.shared_matrix import shared_matrices, shared_matrix
from unfoldc.kernels.pipeline import bytes_per_iteration

K, N, M = 4, 16, 12
rng = np.random.default_rng(1)
A = rng.standard_normal((M, N)) / np.sqrt(M)
G = A.T @ A
MU = (0.8 + 0.4 * rng.random(K))[:, None, None] / np.linalg.norm(G, 2)
C = 1 + 0.1 * rng.random(K)
I = np.eye(N)  # noqa: E741
# The stack, the shape of its diagonal (None for none), and whether its factors differ.
STACKS: dict[str, tuple[np.ndarray, tuple[int, ...] | None, bool]] = {
    "scaled": (MU * A.T, None, True),
    "scaled and square": (MU * G, None, True),
    "gradient steps": (I - MU * G, (), True),
    "other multiples": (C[:, None, None] * I - MU * G, (K,), True),
    "one matrix": (C[:, None, None] * I + G, (K,), False),
    "diagonals": (rng.random((K, N))[:, :, None] * I - MU * G, (K, N), True),
    "one is zero": (np.arange(K)[:, None, None] * A.T, None, True),
}


@pytest.mark.parametrize("name", STACKS)
def test_structure_is_found(name: str) -> None:
    stack = STACKS[name][0].astype(np.float32)
    found = shared_matrix(stack)
    assert found is not None
    for one, wanted in zip(found.matrices(), stack, strict=True):
        assert np.linalg.norm(one - wanted, 2) <= 3e-7 * np.linalg.norm(wanted, 2)
    assert (None if found.d is None else found.d.shape) == STACKS[name][1]
    assert bool((found.b != found.b[0]).any()) == STACKS[name][2]


NOISE = rng.standard_normal((K, N, N))


@pytest.mark.parametrize(
    "stack",
    [
        NOISE,
        I - MU * G + 1e-5 * NOISE,
        I - MU * G + np.where(np.arange(N) == 1, 1e-3, 0) * NOISE,
        np.where(NOISE > 2, np.inf, MU * G),
        rng.random((K, N))[:, :, None] * I,
    ],
    ids=["unrelated", "nearly", "one column differs", "infinite", "diagonal"],
)
def test_other_stacks_are_left_alone(stack: np.ndarray) -> None:
    assert shared_matrix(stack.astype(np.float32)) is None


def test_numbers_whose_squares_overflow_are_left_alone() -> None:
    numbers = np.random.default_rng(2).standard_normal((1, 140, 140))
    huge = numbers * 1e152  # a few of the squares can be summed up, all of them cannot
    assert shared_matrix(huge * np.array([1.0, 0.5])[:, None, None]) is None


def learned(workshop: Any, structures: Any, stack: np.ndarray, left: bool = False) -> Any:
    """x <- tanh(T_k x + V_k y), each weight a file entry of its own."""
    g = workshop.Graph()
    columns = (3,) if left else ()
    y, x = g.input("y", *(() if left else ("batch",)), M, *columns), g.input("x", *columns[1:], *_rows(left))
    for g.k in range(K):
        t, v = g.weight(f"T{g.k}", stack[g.k]), g.weight(f"V{g.k}", MU[g.k] * A.T)
        if left:
            x = g("Tanh", g("Add", g("MatMul", t, x), g("MatMul", v, y)))
        else:
            products = (g("MatMul", u, g("Transpose", w, perm=[1, 0])) for u, w in ((x, t), (y, v)))
            x = g("Tanh", g("Add", *products))
    return structures.prepared(workshop, g.model(x))


def _rows(left: bool) -> tuple[int | str, ...]:
    return (N, 3) if left else ("batch", N)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", [n for n in STACKS if STACKS[n][0].shape[1:] == (N, N)])
def test_the_matrices_become_one(workshop: Any, structures: Any, name: str, left: bool) -> None:
    """And the product with y, whose factor alone differs between iterations, goes to `begin`."""
    before = learned(workshop, structures, STACKS[name][0], left)
    after = structures.compared(before, shared_matrices)
    assert bytes_per_iteration(before) == 4 * (N * N + N * M)
    assert bytes_per_iteration(after) <= 4 * (N + 2)
    assert structures.operators(after).count("MatMul") == 1
    assert [n.operator for n in after.begin].count("MatMul") == 1


def test_what_does_not_repeat_stays(workshop: Any, structures: Any) -> None:
    before = learned(workshop, structures, NOISE / 4)
    after = shared_matrices(before)
    assert [n for n in after.segments[0].nodes if n.operator == "MatMul"][0] in before.segments[0].nodes
