"""What is particular to the text; its meaning is tested by test_interpret_loops.py."""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.loops import Assign, Binary, Buffer, Const, Expr, For, Let, Load, Local, Select, Store, Var
from unfoldc.kernels.printers.plain_expressions import Scalar
from unfoldc.kernels.printers.plain_python import function_of, value_of

ROW, LANE = Var("i"), Var("j")
TWO, NONE = Const(2, "int32"), Const(0, "int32")


def test_no_name_of_a_program_is_written() -> None:
    hostile = "x']; import os"
    buffers = {hostile: Buffer(hostile, "float32", (2,), "state")}
    scalars = {"a b": np.float32(3)}
    outer = {"a b": Scalar("", "float32")}
    function = function_of((Store(hostile, (Const(1, "int32"),), Local("a b", "float32")),), buffers, outer)
    memory = {hostile: np.zeros(2, np.float32)}
    function(memory, scalars)
    assert memory[hostile].tolist() == [0, 3]
    names = {*function.__code__.co_varnames, *function.__code__.co_names}
    assert all(name.isidentifier() for name in names)


def test_a_sum_may_be_long() -> None:
    total: Expr = Const(1.0, "float32")
    for _ in range(300):
        total = Binary("add", total, Const(1.0, "float32"), "float32")
    assert value_of(total, {}, {})({}, {}) == 301


def test_variables_of_loops_are_python_s_integers_and_data_wraps() -> None:
    big = Binary("mul", Const(2**30, "int32"), Const(4, "int32"), "int32")
    data = Binary("add", Load("n", (Const(0, "int32"),), "int32"), Const(2**31 - 1, "int32"), "int32")
    buffers = {"n": Buffer("n", "int32", (1,), "state")}
    with np.errstate(all="ignore"):
        assert value_of(big, {}, {})({}, {}) == 0
        assert value_of(data, buffers, {})({"n": np.array([1], np.int32)}, {}) == -(2**31)


def test_a_scalar_of_its_own_in_each_lane() -> None:
    """s_j = sum of i + j over i, in lanes; the scalar outside keeps its value."""
    buffers = {"s": Buffer("s", "float32", (5,), "state")}
    even = Binary("eq", Binary("mod", Binary("add", ROW, LANE, "int32"), TWO, "int32"), NONE, "bool")
    one = Select(even, Const(1.0, "float32"), Const(10.0, "float32"), "float32")
    add = For("i", 3, (Assign("a", Binary("add", Local("a", "float32"), one, "float32")),))
    body = (
        Let("a", Const(100.0, "float32"), mutable=True),
        For("j", 4, (add, Store("s", (LANE,), Local("a", "float32"))), "lanes"),
        Store("s", (Const(4, "int32"),), Local("a", "float32")),
    )
    memory = {"s": np.zeros(5, np.float32)}
    function_of(body, buffers, {})(memory, {})
    assert memory["s"].tolist() == [112, 121, 112, 121, 100]
