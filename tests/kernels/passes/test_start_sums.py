from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import ITERATION, Assign, Buffer, Const, Expr, For, Let, Load, Local, LoopProgram, Stmt, Var
from unfoldc.kernels.passes.start_sums import start_sums

F = "float32"
BIAS = Load("b", (Var("i"),), F)


def product(products: Any, added: Expr, operator: str = "add") -> LoopProgram:
    """y = tanh(W x + added), with a constant b (8) and one for each iteration, c (1, 8)."""
    program: LoopProgram = products.product(8, 5, transposed=True)

    def change(s: Stmt) -> Stmt:
        if isinstance(s, Let) and s.name == "v":
            return replace(s, value=build.binary(operator, Local("acc", F), added))
        return replace(s, body=tuple(map(change, s.body))) if hasattr(s, "body") else s

    more = {"b": Buffer("b", F, (8,), "constant"), "c": Buffer("c", F, (1, 8), "constant")}
    body = tuple(map(change, program.steps[0].body))
    changed: LoopProgram = products.changed(program, body, more)
    b = np.random.default_rng(2).standard_normal(8).astype(F)
    return replace(changed, constants={**changed.constants, "b": b, "c": b.reshape(1, 8)})


def starts(program: LoopProgram) -> list[Expr]:
    inside = build.statements(program.steps[0].body)
    return [s.value for s in inside if isinstance(s, Let) and s.mutable]


def test_a_constant_is_where_the_sum_starts(products: Any) -> None:
    program = product(products, BIAS)
    changed = start_sums(program)
    np.testing.assert_allclose(products.answer(changed), products.answer(program), rtol=1e-5)
    assert starts(changed) == [BIAS]
    inside = build.statements(changed.steps[0].body)
    assert [s.value for s in inside if isinstance(s, Let) and s.name == "v"] == [Local("acc", F)]
    assert starts(start_sums(product(products, Const(0.5, F)))) == [Const(0.5, F)]


def test_other_numbers_are_added_last(products: Any) -> None:
    iterate = Load("y", (Var("i"),), F)
    own = Load("c", (Var(ITERATION), Var("i")), F)
    for added in (iterate, own, build.mul(BIAS, iterate)):
        program = product(products, added)
        assert start_sums(program) == program
    difference = product(products, BIAS, "sub")
    assert start_sums(difference) == difference


def test_a_sum_that_is_used_twice_or_scaled_stays(products: Any) -> None:
    program = product(products, build.mul(BIAS, Local("acc", F)))
    assert start_sums(program) == program
    plain = product(products, BIAS)

    def scaled(s: Stmt) -> Stmt:
        if isinstance(s, Assign):
            return replace(s, value=build.mul(Local("acc", F), s.value))
        return replace(s, body=tuple(map(scaled, s.body))) if hasattr(s, "body") else s

    body = tuple(map(scaled, plain.steps[0].body))
    program = products.changed(plain, body, {})
    assert start_sums(program) == program


def test_a_sum_that_starts_elsewhere_keeps_its_start(products: Any) -> None:
    plain = product(products, BIAS)

    def other(s: Stmt) -> Stmt:
        if isinstance(s, Let) and s.mutable:
            return replace(s, value=build.literal(2.0, F))
        return replace(s, body=tuple(map(other, s.body))) if isinstance(s, For) or hasattr(s, "body") else s

    program = products.changed(plain, tuple(map(other, plain.steps[0].body)), {})
    assert start_sums(program) == program
