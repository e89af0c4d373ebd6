from __future__ import annotations

from dataclasses import replace

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import ITERATION, Assign, Binary, Expr, For, Let, Load, Local, Stmt, Store, Var
from unfoldc.kernels.passes.matrix_vector import chosen_by, matrix_vector

F = "float32"
I, J, ACC = Var("i"), Var("j"), Local("acc", F)  # noqa: E741


def load(name: str, *at: Expr) -> Load:
    return Load(name, at, F)


def rows(term: Expr, *before: Stmt, extent: int = 5, operator: str = "add", target: str = "y") -> For:
    step = Assign("acc", Binary(operator, ACC, term, F))
    inner = For("j", extent, (*before, step))
    return For("i", 5, (Let("acc", build.literal(0, F), True), inner, Store(target, (I,), ACC)))


W, X = load("w", I, J), load("x", J)


@pytest.mark.parametrize("w", [W, load("w", J, I), load("w", build.index(2), I, J), load("w", J, Var(ITERATION), I)])
@pytest.mark.parametrize("first", [False, True])
def test_a_product(w: Load, first: bool) -> None:
    found = matrix_vector(rows(build.mul(w, X) if first else build.mul(X, w)), 1, {"w"})
    assert found is not None
    assert (found.matrix, found.x, found.sum, found.before) == (w, X, "acc", ())
    assert chosen_by(w) == tuple(i for i in w.indices if i not in (I, J))


def test_the_vector_may_be_computed() -> None:
    own = Let("v", build.sub(X, load("u", J)))
    found = matrix_vector(rows(build.mul(Local("v", F), W), own), 1, {"w"})
    assert found is not None and found.before == (own,)


@pytest.mark.parametrize(
    "other",
    [
        rows(build.mul(W, X), extent=4),
        rows(build.mul(W, X), operator="sub"),
        rows(build.mul(W, X), target="x"),
        rows(build.add(W, X)),
        rows(W),
        rows(build.mul(load("w", I, I), X)),
        rows(build.mul(load("w", I, build.add(J, build.index(1))), X)),
        rows(build.mul(load("run_time", I, J), X)),
        rows(build.mul(W, load("x", I))),
        rows(build.mul(W, Local("of_the_row", F))),
        rows(build.mul(W, X), Store("z", (J,), X)),
    ],
)
def test_others(other: For) -> None:
    assert matrix_vector(other, 1, {"w"}) is None


def test_other_places() -> None:
    loop = rows(build.mul(W, X))
    assert matrix_vector(loop, 0, {"w"}) is None and matrix_vector(loop, 2, {"w"}) is None
    empty = replace(loop, body=(loop.body[0], For("j", 5, ()), *loop.body[2:]))
    assert matrix_vector(empty, 1, {"w"}) is None
