from __future__ import annotations

import itertools

import numpy as np
import pytest

from unfoldc.kernels.loops import Binary, Cast, Const, Expr, Load, Var
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify
from unfoldc.kernels.printers.python_text import Names, comment

i, j, k = Var("i"), Var("j"), Var("k")


def const(n: int, dtype: str = "int32") -> Const:
    return Const(n, dtype)


def op(operator: str, a: Expr, b: Expr) -> Binary:
    return Binary(operator, a, b, a.dtype)


def text(e: Expr) -> str:
    signs = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%"}
    match e:
        case Const(value):
            return str(value)
        case Var(name):
            return name
        case Binary(operator, a, b):
            return f"({text(a)} {signs[operator]} {text(b)})"
        case Cast(a, dtype):
            return f"{dtype}({text(a)})"
    raise AssertionError(e)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (op("add", i, const(0)), "i"),
        (op("mul", const(1), i), "i"),
        (op("mul", i, const(0)), "0"),
        (op("floordiv", i, const(1)), "i"),
        (op("mod", i, const(1)), "0"),
        (op("add", op("add", i, const(3)), const(4)), "(i + 7)"),
        (op("sub", op("add", i, const(3)), const(3)), "i"),
        (op("sub", op("add", i, const(3)), const(5)), "(i - 2)"),
        (op("add", i, op("sub", j, const(2))), "((i + j) - 2)"),
        (op("mod", op("add", const(7), const(4)), const(4)), "3"),
        (op("sub", const(2), i), "(2 - i)"),
        (op("floordiv", i, const(0)), "(i // 0)"),
        (Cast(Cast(i, "int64"), "int64"), "int64(i)"),
        (Cast(const(3), "int64"), "3"),
    ],
)
def test_simplify(expression: Expr, expected: str) -> None:
    assert text(simplify(expression)) == expected
    assert simplify(expression).dtype == expression.dtype


def test_floats_are_left_alone() -> None:
    e = Binary("mul", Load("a", (i,), "float32"), Const(0.0, "float32"), "float32")
    assert simplify(e) is e


def test_flatten_is_row_major() -> None:
    shape = (3, 1, 4, 5)
    position = flatten((i, const(0), j, k), shape)
    for a, b, c in itertools.product(range(3), range(4), range(5)):
        value = eval(text(position), {"i": a, "j": b, "k": c})
        assert value == np.ravel_multi_index((a, 0, b, c), shape)
    assert text(flatten((), ())) == "0"
    assert text(flatten((op("sub", k, const(1)), j), (4, 9))) == "(((k - 1) * 9) + j)"


def test_an_index_from_data_stays_in_its_axis() -> None:
    data = Load("p", (i,), "int32")
    cut = op("min", op("max", data, const(0)), const(6))
    assert bounded((op("add", i, const(1)), data), (5, 7)) == (op("add", i, const(1)), cut)


def test_flatten_widens_to_the_widest_index() -> None:
    wide = Load("p", (i,), "int64")
    position = flatten((j, wide), (2, 3))
    assert position.dtype == "int64"
    assert flatten((j, i), (2, 3)).dtype == "int32"


def test_comments_keep_nothing_dangerous() -> None:
    assert comment(["a\n b*/'\"#\\ (MatMul)", "x" * 99]) == ["# from a__b______ MatMul, " + "x" * 40]
    assert comment([]) == []
    assert comment([f"n{i} (Add)" for i in range(8)])[0].endswith("n5 Add and 2 more")


def test_names_stay_apart() -> None:
    names = Names(("range",), prefixes=("own_",))
    assert [names(n, "buffer") for n in ("lambda", "range", "own_a", "x")] == ["lambda_", "range_", "own_a_", "x"]
    assert names("x", "float32") == "x_"
    assert names("x", "buffer") == "x"
