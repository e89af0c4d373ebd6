"""Zeros and ones are divided by a number once; whatever else is divided stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Binary, Buffer, Expr, For, Load, LoopProgram, Step, Store, Var
from unfoldc.kernels.passes.unit_quotients import unit_quotients
from unfoldc.kernels.verify import verify_loops

F, N = "float32", 3
I = Var("i")  # noqa: E741


def program(values: list[float], at: Expr = build.ZERO) -> LoopProgram:
    """out = w / s[at]."""
    quotient = build.binary("div", Load("w", (I,), F), Load("s", (at,), F))
    buffers = {
        "w": Buffer("w", F, (N,), "constant"),
        "s": Buffer("s", F, (N,), "input"),
        "out": Buffer("out", F, (N,), "output"),
    }
    end = (For("i", N, (Store("out", (I,), quotient),)),)
    return LoopProgram(buffers, {"w": np.array(values, F)}, ("s",), ("out",), (), (Step(0, 1, ()),), end)


def value(made: LoopProgram) -> Expr:
    (store,) = [s for s in build.statements(made.end) if isinstance(s, Store)]
    return store.value


@pytest.mark.parametrize("s", [3.0, -7e-3, 1e30, 0.0, np.inf, -np.inf, np.nan])
def test_the_products_are_the_quotients(s: float) -> None:
    plain = program([0, 1, -1])
    made = unit_quotients(plain)
    verify_loops(made)
    product = value(made)
    assert isinstance(product, Binary)
    assert product.operator == "mul"
    inputs = {"s": np.full(N, s, F)}
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(made, inputs)["out"], run(plain, inputs)["out"])


def test_other_quotients_stay() -> None:
    for plain in (program([0, 1, 0.5]), program([0, 1, np.nan]), program([0, 1, -1], at=I)):
        assert value(unit_quotients(plain)) == value(plain)
