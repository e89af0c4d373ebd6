from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    BINARY_OPERATORS,
    UNARY_OPERATORS,
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
from unfoldc.kernels.numpy_meanings import BINARY, UNARY


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).parent / "printers" / "loop_programs.py")
ZERO, ONE = Const(0, "int32"), Const(1, "int32")


def program(*body: Stmt, **plan: Any) -> LoopProgram:
    """One iteration of `body` over x (input), w (constant), s (state) and t (scratch); the output is s."""
    names = {"x": "input", "w": "constant", "s": "state", "t": "scratch", "z": "output"}
    buffers = {name: Buffer(name, "float32", (3,), space) for name, space in names.items()}
    constants = {"w": np.array([10, 20, 30], "float32")}
    end = (For("i", 3, (Store("z", (Var("i"),), Load("s", (Var("i"),), "float32")),)),)
    return LoopProgram(buffers, constants, ("x",), ("z",), (), (Step(0, 2, body),), end, **plan)


def at(name: str, index: Expr = ZERO) -> Load:
    return Load(name, (index,), "float32")


def result(*body: Stmt, iterations: int | None = None, **plan: Any) -> list[float]:
    x = np.array([1, 2, 3], "float32")
    found: list[float] = run(program(*body, **plan), {"x": x}, iterations)["z"].tolist()
    return found


def test_the_iterates_of_lista_are_those_of_its_equation() -> None:
    for peeled in (False, True):
        lista = programs.lista("float64", peeled)
        y = np.random.default_rng(0).normal(size=5)
        w1, w2, theta = (lista.constants[name] for name in ("W1", "W2", "theta"))
        x = np.zeros(9)
        for k in range(5):
            np.testing.assert_allclose(run(lista, {"y": y}, k)["x"], x, rtol=1e-12)
            if k < 4:
                a = w2 @ x + w1 @ y
                x = np.sign(a) * np.maximum(np.abs(a) - theta[k], 0)


def test_all_iterations_are_the_default() -> None:
    lista = programs.lista()
    y = np.ones(5, np.float32)
    np.testing.assert_array_equal(run(lista, {"y": y})["x"], run(lista, {"y": y}, 4)["x"])


def test_every_operator_has_a_meaning() -> None:
    assert set(UNARY) == set(UNARY_OPERATORS)
    assert set(BINARY) == set(BINARY_OPERATORS)


@pytest.mark.parametrize("name", ["min", "max"])
def test_minimum_and_maximum_are_nan_when_either_side_is(name: str) -> None:
    for a, b in ((1.0, math.nan), (math.nan, 1.0)):
        value = Binary(name, Const(a, "float32"), Const(b, "float32"), "float32")
        assert math.isnan(result(Store("s", (ZERO,), value))[0])


def test_float32_is_rounded_after_each_operation() -> None:
    big = Binary("add", Const(2.0**24, "float32"), Const(1.0, "float32"), "float32")
    value = Binary("sub", big, Const(2.0**24, "float32"), "float32")
    assert result(Store("s", (ZERO,), value))[0] == 0


def test_loops_scalars_and_blocks() -> None:
    total = Assign("a", Binary("add", Local("a", "float32"), at("w", Var("i")), "float32"))
    body = (Let("a", Const(0.0, "float32"), True), For("i", 3, (total,)), Store("s", (ONE,), Local("a", "float32")))
    assert result(Nest((), body), Nest((), body))[1] == 60


def test_the_number_of_the_iteration() -> None:
    value = Cast(Var("k"), "float32")
    assert result(Store("s", (ZERO,), value), iterations=1)[0] == 0
    assert result(Store("s", (ZERO,), value), iterations=2)[0] == 1


def test_a_choice_and_a_cast_of_nan() -> None:
    nan = Cast(Const(math.nan, "float32"), "bool")
    assert result(Store("s", (ZERO,), Select(nan, at("x"), at("w"), "float32")))[0] == 1
    lower = Binary("lt", at("x"), at("w"), "bool")
    assert result(Store("s", (ZERO,), Select(Unary("not", lower, "bool"), at("x"), at("w"), "float32")))[0] == 10


def test_what_was_never_written_is_nan() -> None:
    assert all(math.isnan(v) for v in result(Store("s", (ZERO,), at("t"))))
    assert all(math.isnan(v) for v in result(Store("s", (ZERO,), at("t")), scratch_offsets={"t": 0}, scratch_bytes=12))


def test_scratch_does_not_outlive_a_call() -> None:
    body = (Store("s", (ZERO,), at("t", ONE)), Store("t", (ONE,), at("x")))
    assert math.isnan(result(*body)[0])


def test_scratch_in_the_same_place_is_the_same_memory() -> None:
    extra = {"u": Buffer("u", "float32", (3,), "scratch")}
    body = (Store("t", (ZERO,), at("x")), Store("u", (ZERO,), at("w")), Store("s", (ZERO,), at("t")))
    one = program(*body)
    x = {"x": np.ones(3, np.float32)}
    both = replace(one, buffers=dict(one.buffers) | extra)
    assert run(both, x)["z"][0] == 1
    assert run(replace(both, scratch_offsets={"t": 0, "u": 0}, scratch_bytes=12), x)["z"][0] == 10
    assert run(replace(both, scratch_offsets={"t": 0, "u": 12}, scratch_bytes=24), x)["z"][0] == 1


F = Const(1.0, "float32")
MINUS = Const(-1, "int32")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ((Store("s", (Const(3, "int32"),), F),), r"s of shape \(3,\) has no element \(3,\)"),
        ((Store("s", (MINUS,), F),), r"s of shape \(3,\) has no element \(-1,\)"),
        ((Store("s", (ZERO, ZERO), F),), r"s of shape \(3,\) has no element \(0, 0\)"),
        ((Store("x", (ZERO,), F),), "a float32 is stored into Buffer.name='x'"),
        ((Store("w", (ZERO,), F),), "a float32 is stored into Buffer.name='w'"),
        ((Store("s", (ZERO,), Const(1.0, "float64")),), "a float64 is stored into"),
        ((Store("s", (ZERO,), Binary("add", F, Const(1.0, "float64"), "float32")),), "add of float32 and float64"),
        ((Store("s", (ZERO,), Binary("lt", F, F, "float32")),), "lt of float32 and float32 to float32"),
        (
            (Store("s", (ZERO,), Binary("add", F, F, "float64")),),
            "is said to be float64 but is float32|a float64 is stored",
        ),
        (
            (Store("s", (Binary("mod", MINUS, ONE, "int32"),), F),),
            "floordiv and mod take integers from 0, not int32 -1",
        ),
        ((Let("a", F), Let("a", F)), "a is declared twice"),
        ((For("i", 1, (For("i", 1, ()),)),), "i is declared twice"),
        ((Let("a", F), Assign("a", F)), "a is not a mutable scalar of type float32"),
        ((Let("a", F, True), Assign("a", Const(1, "int32"))), "a is not a mutable scalar of type int32"),
        ((Assign("a", F),), "a is not a mutable scalar"),
        ((Nest((), (Let("a", F),)), Store("s", (ZERO,), Local("a", "float32"))), "a is used outside its block"),
        ((For("i", 1, ()), Store("s", (Var("i"),), F)), "i is used outside its block"),
    ],
)
def test_what_no_program_may_do(body: tuple[Stmt, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        result(*body)


def test_inputs_and_iterations_must_fit() -> None:
    with pytest.raises(ValueError, match="iterations is 3; the program has 2"):
        result(iterations=3)
    with pytest.raises(ValueError, match=r"x is float32\(3,\), got float64\(3,\)"):
        run(program(), {"x": np.ones(3)})
    with pytest.raises(ValueError, match="t ends outside the scratch arena of 8 bytes"):
        result(scratch_offsets={"t": 0}, scratch_bytes=8)
