from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Binary, Buffer, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.split_reshaped import split_reshaped
from unfoldc.kernels.verify import verify_loops

I = Var("i")  # noqa: E741


def whole(operator: str, a: Expr, b: int) -> Expr:
    return build.binary(operator, a, build.index(b))


def changed(loop: For, shape: tuple[int, int]) -> tuple[Stmt, ...]:
    """The loop after the pass, after a look at whether y is still what it was, from x of that shape."""
    size = shape[0] * shape[1]
    buffers = {
        "x": Buffer("x", "float32", shape, "input"),
        "y": Buffer("y", "float32", (size,), "state"),
        "out": Buffer("out", "float32", (size,), "output"),
    }
    end = (For("e", size, (Store("out", (Var("e"),), Load("y", (Var("e"),), "float32")),)),)
    x = {"x": np.random.default_rng(1).standard_normal(shape).astype("float32")}

    def answer(body: tuple[Stmt, ...]) -> Any:
        program = LoopProgram(buffers, {}, ("x",), ("out",), (), (Step(0, 1, body),), end)
        verify_loops(program)
        return run(program, x)["out"]

    plain: tuple[Stmt, ...] = (Nest((), (loop,)),)
    result = split_reshaped(plain)
    np.testing.assert_array_equal(answer(result), answer(plain))
    return result


def divided(body: tuple[Stmt, ...]) -> list[Expr]:
    tops = (e for s in body for top in build.expressions(s) for e in build.walk(top))
    return [e for e in tops if isinstance(e, Binary) and e.operator in ("floordiv", "mod")]


def extents(body: tuple[Stmt, ...]) -> list[Any]:
    return [s.extent for s in build.statements(body) if isinstance(s, For)]


@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (2, 32)])
def test_a_loop_over_two_axes_becomes_two(shape: tuple[int, int]) -> None:
    rows, length = shape
    value = Load("x", (whole("floordiv", I, length), whole("mod", I, length)), "float32")
    result = changed(For("i", rows * length, (Store("y", (I,), value),)), shape)
    assert extents(result) == [rows, length] and not divided(result)


def test_blocks_of_whole_rows_are_rows() -> None:
    """(8 b + i) // 4 is 2 b + i // 4."""
    place = build.add(whole("mul", Var("b"), 8), I)
    value = Load("x", (whole("floordiv", place, 4), whole("mod", place, 4)), "float32")
    result = changed(For("b", 3, (For("i", 8, (Store("y", (place,), value),)),)), (6, 4))
    assert extents(result) == [3, 2, 4] and not divided(result)


def test_other_divisions_stay() -> None:
    shape = (3, 4)
    value = Load("x", (whole("floordiv", I, 4), whole("mod", I, 4)), "float32")
    part = changed(For("i", 10, (Store("y", (I,), value),)), shape)  # ends within a row
    assert extents(part) == [10]
    other = Load("x", (whole("floordiv", I, 6), whole("mod", I, 4)), "float32")  # two divisors
    assert extents(changed(For("i", 12, (Store("y", (I,), other),)), shape)) == [12]
    shifted = build.add(I, build.index(1))
    moved = Load("x", (whole("floordiv", shifted, 4), whole("mod", shifted, 4)), "float32")
    assert extents(changed(For("i", 8, (Store("y", (I,), moved),)), shape)) == [8]
