from __future__ import annotations

from typing import Any

import pytest

from unfoldc.kernels.passes.fuse import stored_values
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx


def stored(program: Program) -> list[str]:
    """Operators of the values that get a buffer, in order."""
    names = stored_values(program)
    return [n.operator for n in program.nodes() if n.outputs[0] in names]


def compiled(workshop: Any, name: str) -> Program:
    return optimise(import_onnx(workshop.saved(name, 4)).program)


def test_an_iteration_of_ista_stores_its_result_alone(workshop: Any) -> None:
    assert stored(compiled(workshop, "ista_tied")) == ["Expand", "MatMul", "Mul"]  # x0 and W1 y in begin; x


def test_an_operand_of_a_product_is_stored(workshop: Any) -> None:
    assert stored(compiled(workshop, "wide")) == ["Expand", "Sub", "Mul"]


def chain(workshop: Any, *steps: Any) -> list[str]:
    g = workshop.Graph()
    x = g.input("x", "batch", 6)
    g.k = 0  # one iteration, however often the steps repeat
    for step in steps:
        x = step(g, x)
    return stored(optimise(workshop.imported(g.model(x)).program))


def test_what_is_spread_over_more_elements_is_stored(workshop: Any) -> None:
    def total(g: Any, x: str) -> str:
        return g("ReduceSum", g("Abs", x), g.weight("last", [-1], "int64"), keepdims=1)

    assert chain(workshop, lambda g, x: g("Div", x, g("Sqrt", total(g, x)))) == ["Abs", "Sqrt", "Div"]


def test_two_readers_that_end_in_one_value_share_the_work(workshop: Any) -> None:
    def square(g: Any, x: str) -> str:
        t = g("Tanh", x)
        return g("Add", g("Exp", t), g("Mul", t, t))

    assert chain(workshop, square) == ["Add"]
    assert chain(workshop, square, lambda g, x: g("MatMul", x, g.weight("W", workshop.random("W", 6, 6)))) == [
        "Add",
        "MatMul",
    ]


def test_views_are_looked_through_to_the_value_that_crosses(workshop: Any) -> None:
    g = workshop.Graph()
    x = g.input("x", "batch", 6)
    b = g("Reshape", g("Tanh", x), g.weight("s", [-1, 2, 3], "int64"))
    for g.k in range(3):
        x = g("Tanh", g("Add", x, g("Reshape", b, g.weight("t", [-1, 6], "int64"))))
    assert stored(optimise(workshop.imported(g.model(x)).program)) == ["Tanh", "Tanh"]


def test_a_view_read_at_home_and_later(workshop: Any) -> None:
    """Begin's own reader of the view would have its source computed inside."""
    g = workshop.Graph()
    y = g.input("y", "batch", 6)
    b = g("Transpose", g("Tanh", y), perm=[1, 0])
    x = g("Neg", b)
    for g.k in range(3):
        x = g("Tanh", g("Add", x, b))
    assert stored(optimise(workshop.imported(g.model(x)).program)) == ["Tanh", "Neg", "Tanh"]


@pytest.mark.parametrize(("operator", "length", "most"), [("Sin", 200, 6), ("Transpose", 40, 8)])
def test_expressions_do_not_nest_without_end(workshop: Any, operator: str, length: int, most: int) -> None:
    found = chain(workshop, *([lambda g, x: g(operator, x)] * length))
    assert 1 < len(found) <= most


def differences(workshop: Any, start: Any) -> list[str]:
    """An iteration with the differences of neighbours, with a 0 behind the last."""
    g = workshop.Graph()
    x = g.input("x", "batch", 9)
    g.k = 0
    x = start(g, x)
    first, last, axis = (g.weight(n, v, "int64") for n, v in (("a", [0]), ("b", [8]), ("c", [1])))
    end = g.weight("e", [9], "int64")
    steps = g("Sub", g("Slice", x, axis, end, axis), g("Slice", x, first, last, axis))
    padded = g("Pad", g("Tanh", steps), g.weight("p", [0, 0, 0, 1], "int64"))
    return stored(optimise(workshop.imported(g.model(g("Add", x, padded))).program))


def test_what_is_cheap_may_be_computed_for_a_border_too(workshop: Any) -> None:
    """8 differences for 9 results; those of sums are computed once."""
    W = workshop.random("W", 9, 9)
    assert differences(workshop, lambda g, x: x) == ["Add"]
    assert "Tanh" in differences(workshop, lambda g, x: g("MatMul", x, g.weight("W", W)))
