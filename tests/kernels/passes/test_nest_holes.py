"""The form of a statement: what two nests have in common when names and numbers are left open."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Select,
    Step,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.passes.nest_holes import Hole, holes, refill, skeleton

F = "float32"
BUFFERS = {
    name: Buffer(name, dtype, shape, space)
    for name, dtype, shape, space in (
        ("a", F, (3,), "input"),
        ("b", F, (3,), "scratch"),
        ("c", F, (3,), "scratch"),
        ("wide", F, (4,), "scratch"),
        ("double", "float64", (3,), "scratch"),
        ("stack", F, (2, 3), "constant"),
    )
}


def nest(
    source: str = "a",
    target: str = "b",
    factor: float = 2.0,
    operator: str = "add",
    i: str = "i",
    local: str = "v",
    extent: int = 3,
    offset: int = 0,
    last: str = "",
) -> Nest:
    """target[i] = select(v < factor, -v, v) with v = source[i + offset] (operator) factor; all kinds of node."""
    at: Expr = build.add(Var(i), build.index(offset))
    value = Binary(operator, Load(source, (at,), F), Const(factor, F), F)
    v = Local(local, F)
    chosen = Select(Binary("lt", v, Const(factor, F), "bool"), Unary("neg", v, F), Cast(Cast(v, "float64"), F), F)
    store = Store(target, (Var(last or i),), chosen)
    body: tuple[Stmt, ...] = (Let(local, value, mutable=True), Assign(local, Unary("abs", v, F)), store)
    return Nest((f"made of {source}",), (For(i, extent, body),))


def test_holes_in_order() -> None:
    found = holes(nest(offset=1))
    # What an index holds comes before the buffer that it is for, what is stored before where.
    assert [(h.kind, h.name or h.value.value) for h in found] == [
        ("const", 1),
        ("load", "a"),
        ("const", 2.0),
        ("const", 2.0),
        ("store", "b"),
    ]


def test_refilled_with_what_was_there_nothing_changes() -> None:
    s = nest(offset=1)

    def same(hole: Hole) -> Expr | str:
        return hole.value if hole.kind == "const" else hole.name

    assert refill(s, same) == s


def test_every_hole_is_filled_where_it_was_found() -> None:
    fills: Iterator[Expr | str] = iter([build.index(0), "c", Const(5.0, F), Const(6.0, F), "wide"])
    found = holes(refill(nest(offset=1), lambda hole: next(fills)))
    assert [h.name or h.value.value for h in found] == [0, "c", 5.0, 6.0, "wide"]


def test_a_stack_is_read_at_the_loop_variable() -> None:
    """`stack[r]` as a fill puts the variable in front of the indices; the loop then reads slice after slice."""
    inner = refill(nest(), lambda hole: hole.value if hole.kind == "const" else {"a": "stack[r]"}.get(hole.name, "b"))
    loads = [e for top in build.expressions(inner) for e in build.walk(top) if isinstance(e, Load)]
    assert [(e.buffer, e.indices) for e in loads] == [("stack", (Var("r"), Var("i")))]
    stack = np.arange(6, dtype=F).reshape(2, 3)
    buffers = {**BUFFERS, "out": Buffer("out", F, (3,), "output")}
    end = (Nest((), (For("j", 3, (Store("out", (Var("j"),), Load("b", (Var("j"),), F)),)),)),)
    buffers["b"] = Buffer("b", F, (3,), "state")
    program = LoopProgram(buffers, {"stack": stack}, ("a",), ("out",), (), (Step(0, 1, (For("r", 2, (inner,)),)),), end)
    v = np.abs(stack[-1] + 2)
    np.testing.assert_array_equal(run(program, {"a": np.zeros(3, F)})["out"], np.where(v < 2, -v, v))


SAME = [
    {"source": "c"},
    {"target": "c"},
    {"factor": 7.5},
    {"i": "other"},
    {"local": "other"},
    {"source": "c", "target": "a", "factor": -1.0, "i": "p", "local": "q"},
]
OTHER = [
    {"source": "wide"},
    {"source": "double"},
    {"target": "wide"},
    {"operator": "mul"},
    {"extent": 2},
    {"offset": 1},
    {"last": "k"},
]


@pytest.mark.parametrize("change", SAME)
def test_equal_forms(change: dict[str, str]) -> None:
    assert skeleton(nest(**change), BUFFERS) == skeleton(nest(), BUFFERS)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", OTHER)
def test_other_forms(change: dict[str, str]) -> None:
    assert skeleton(nest(**change), BUFFERS) != skeleton(nest(), BUFFERS)  # type: ignore[arg-type]


def test_the_running_iteration_is_no_loop_variable() -> None:
    assert skeleton(nest(last="k"), BUFFERS) != skeleton(nest(last="other"), BUFFERS)


def test_which_variable_stands_where_matters() -> None:
    """The indices of a transposed read are not those of a plain one."""

    def copy(first: str, second: str) -> Nest:
        square = Load("square", (Var(first), Var(second)), F)
        inner = For("j", 3, (Store("other", (Var("i"), Var("j")), square),))
        return Nest((), (For("i", 3, (inner,)),))

    buffers = {name: Buffer(name, F, (3, 3), "scratch") for name in ("square", "other")}
    assert skeleton(copy("i", "j"), buffers) != skeleton(copy("j", "i"), buffers)
