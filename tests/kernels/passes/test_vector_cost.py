from __future__ import annotations

from typing import Any

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Step, Stmt, Store, Var
from unfoldc.kernels.passes.vector_cost import calls_functions, vector_cost
from unfoldc.kernels.passes.vector_results import vector_results

I, J = Var("i"), Var("j")  # noqa: E741


def program(body: tuple[Stmt, ...], count: int = 1) -> LoopProgram:
    buffers = {name: Buffer(name, "float32", (8, 16), "state") for name in ("a", "b")}
    return LoopProgram(buffers, {}, (), (), (), (Step(0, count, body),), ())


def nest(value: Expr, kind: str = "serial", across: bool = False) -> tuple[Stmt, ...]:
    """b = value for 8 rows of 16; across: the rows are the inner loop."""
    store = Store("b", (I, J), value)
    if across:
        return (For("j", 16, (For("i", 8, (store,), kind),)),)
    return (For("i", 8, (For("j", 16, (store,), kind),)),)


def test_vectors_count_once() -> None:
    value = build.add(Load("a", (I, J), "float32"), build.literal(1.0, "float32"))
    one = vector_cost(program(nest(value, "lanes")))
    assert one == 8 * 3  # a read, an addition and a write
    assert vector_cost(program(nest(value, "lanes"), count=5)) == 5 * one


def test_what_lies_side_by_side_is_cheaper_than_what_does_not() -> None:
    value = Load("a", (I, J), "float32")
    along, across = vector_cost(program(nest(value))), vector_cost(program(nest(value, across=True)))
    assert vector_cost(program(nest(value, "lanes"))) < along < across == 8 * 16 * 2


def test_functions_cost_more_than_arithmetic() -> None:
    a = Load("a", (I, J), "float32")
    sums, roots, functions = (nest(v) for v in (build.add(a, a), build.unary("sqrt", a), build.unary("tanh", a)))
    assert vector_cost(program(sums)) < vector_cost(program(roots)) < vector_cost(program(functions))
    assert calls_functions(functions) and not calls_functions(roots) and not calls_functions(sums)


@pytest.mark.parametrize("rows", [8, 16])
def test_a_product_with_vectors_costs_less(rows: int, products: Any) -> None:
    plain = products.product(rows, 9, transposed=True)
    assert vector_cost(vector_results(plain, 128, 6)) < vector_cost(plain) / 2
