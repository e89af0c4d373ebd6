"""Sums over whole matrices are taken column by column, with what only they read computed on the way."""

from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.sum_columns import sum_columns
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.verify import verify_loops

F, N, C = "float32", 6, 4
J, COLUMN = Var("j"), Var("c")


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, F)


def total(target: str, term: Expr, start: float = 0.0, rows: int = N, columns: int = C) -> Nest:
    """target = sqrt(start + the sum of term over j < rows, c < columns)."""
    grow = Assign("acc", build.add(Local("acc", F), term))
    body: tuple[Stmt, ...] = (
        Let("acc", build.literal(start, F), mutable=True),
        For("j", rows, (For("c", columns, (grow,)),)),
        Store(target, (build.ZERO,), build.unary("sqrt", Local("acc", F))),
    )
    return Nest(("sum",), body)


def squares(target: str = "t") -> Nest:
    store = Store(target, (J, COLUMN), build.mul(at("x", J, COLUMN), at("x", J, COLUMN)))
    return Nest(("squares",), (For("j", N, (For("c", C, (store,)),)),))


def program(*body: Stmt) -> LoopProgram:
    buffers = {
        "x": Buffer("x", F, (N, C), "input"),
        "t": Buffer("t", F, (N, C), "scratch"),
        "s": Buffer("s", F, (1,), "state"),
        "r": Buffer("r", F, (1,), "state"),
        "out": Buffer("out", F, (2,), "output"),
    }
    begin = tuple(Store(n, (build.ZERO,), build.literal(0, F)) for n in "sr")
    end = tuple(Store("out", (build.index(q),), at(n, build.ZERO)) for q, n in enumerate("sr"))
    return LoopProgram(buffers, {}, ("x",), ("out",), begin, (Step(0, 1, body),), end)


def same(plain: LoopProgram, bits: int = 256) -> LoopProgram:
    changed = sum_columns(plain, bits)
    x = np.random.default_rng(2).standard_normal((N, C)).astype(F)
    for made in (changed, vector_results(changed, bits, 6)):
        verify_loops(made)
        np.testing.assert_allclose(run(made, {"x": x})["out"], run(plain, {"x": x})["out"], rtol=1e-5)
    return changed


@pytest.mark.parametrize("start", [0.0, 3.0])
def test_a_norm(start: float) -> None:
    changed = same(program(squares(), total("s", at("t", J, COLUMN), start)))
    first, rest = changed.steps[0].body
    assert "t" not in changed.buffers
    loops = [s.extent for s in build.statements((first, rest)) if isinstance(s, For)]
    assert loops == [C, N, C]
    lanes = [s for s in build.statements(vector_results(changed, 256, 6).steps[0].body) if isinstance(s, For)]
    assert [s.extent for s in lanes if s.kind == "lanes"] == [C]


def test_what_others_read_stays() -> None:
    last = Store("r", (build.ZERO,), at("t", build.index(1), build.index(2)))
    changed = same(program(squares(), total("s", at("t", J, COLUMN)), Nest((), (last,))))
    assert "t" in changed.buffers
    assert len(changed.steps[0].body) == 4


def test_what_has_changed_since_is_not_computed_again() -> None:
    """t is made of r, which is set between the two."""
    made = Nest((), (For("j", N, (For("c", C, (Store("t", (J, COLUMN), at("r", build.ZERO)),)),)),))
    between = Nest((), (Store("r", (build.ZERO,), build.literal(7, F)),))
    changed = same(program(made, between, total("s", at("t", J, COLUMN))))
    assert "t" in changed.buffers
    assert len(changed.steps[0].body) == 4


def test_columns_that_are_no_neighbours_or_too_few() -> None:
    turned = program(squares(), total("s", at("t", COLUMN, J), rows=C, columns=N))
    assert same(turned).steps == turned.steps
    short = program(squares(), total("s", at("t", J, COLUMN)))
    assert same(short, 512).steps == short.steps


def test_another_order_is_not_computed_on_the_way() -> None:
    """The rows of t are read from the last to the first."""
    backwards = build.sub(build.index(N - 1), J)
    changed = same(program(squares(), total("s", build.mul(at("t", backwards, COLUMN), at("x", J, COLUMN)))))
    assert "t" in changed.buffers


def test_columns_must_lie_side_by_side_everywhere() -> None:
    """x is read along and across its rows."""
    plain = program(total("s", build.mul(at("x", J, COLUMN), at("x", COLUMN, COLUMN))))
    assert same(plain).steps == plain.steps
