"""Generated C on an emulated microcontroller: functions that bare metal lacks, code that does not grow with K."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import UNARY_OPERATORS, Binary, Cast, Const, Expr, Unary
from unfoldc.kernels.printers.c.helpers import library_name
from unfoldc.kernels.printers.elementary import FUNCTIONS
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
cases = build.load("c_cases")
TARGET = find_target("cortex-m4")


def emulate(case: Any, folder: Path, target: Any = TARGET) -> Emulator:
    artifact = replace(case, spec=target.spec, freestanding=True).artifact("solver")
    return Emulator(build_firmware(artifact, target, folder, strict=True), artifact, target)


def test_every_operator_links_and_keeps_nan_and_infinities(tmp_path: Path) -> None:
    case = cases.metal_case()
    got = emulate(case, tmp_path).solve(list(case.inputs.values()))
    wanted = run(case.program, case.inputs)
    for name, value in zip(case.program.outputs, got, strict=True):
        np.testing.assert_allclose(value, wanted[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_functions_are_accurate(tmp_path: Path) -> None:
    case = cases.function_case(800)
    got = dict(zip(case.program.outputs, emulate(case, tmp_path).solve(list(case.inputs.values())), strict=True))
    x, y = (case.inputs[i].astype("float64") for i in "xy")
    with np.errstate(all="ignore"):
        power = x**y
    for name, want in {"r_tanh": np.tanh(x), "r_erf": np.vectorize(math.erf)(x), "r_pow": power}.items():
        kept = ~(np.abs(want) > 0.999999 * np.finfo("float32").max) & ~(np.abs(want) < np.finfo("float32").tiny)
        np.testing.assert_allclose(got[name][kept], want[kept], rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(got["r_round"], np.rint(x))


def test_numbers_that_no_integer_holds_become_the_least_one(tmp_path: Path) -> None:
    """In C their conversion is undefined; processors give different answers."""
    x = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 2.0**31, -(2.0**31), 1.9, -1.9, 1e30, 2147483520.0], "float32")
    types = ("int32", "int64")
    program = build.elementwise({"x": x}, {f"r_{t}": lambda x, t=t: Cast(x, t) for t in types})
    for t, got in zip(types, emulate(build.Case(program, {"x": x}), tmp_path).solve([x]), strict=True):
        limit = 2.0**31 if t == "int32" else 2.0**63
        want = [int(v) if -limit <= v < limit else np.iinfo(t).min for v in x.astype("float64")]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("core", ["cortex-m4", "rv32imfc", "rv64gc"])
def test_numbers_between_limits_and_absolute_values(core: str, tmp_path: Path) -> None:
    """RISC-V has instructions for these, which on their own would answer NaN with a limit."""
    x = np.array([np.nan, -np.inf, -2, -0.5, 0, 0.25, 1, 3, np.inf], "float32")

    def limited(x: Expr, first: str, second: str, limits: tuple[float, float]) -> Expr:
        inner = Binary(first, x, Const(limits[0], "float32"), "float32")
        return Binary(second, Const(limits[1], "float32"), inner, "float32")

    program = build.elementwise({"x": x}, {
        "low_first": lambda x: limited(x, "max", "min", (-0.75, 1.5)),
        "high_first": lambda x: limited(x, "min", "max", (1.5, -0.75)),
        "high_wins": lambda x: limited(x, "max", "min", (2.0, 1.0)),
        "absolute": lambda x: Unary("abs", x, "float32"),
    })  # fmt: skip
    case = build.Case(program, {"x": x})
    assert "_clip_known_float32(" in replace(case, freestanding=True).sources("s")[0]["s.c"]
    wanted = run(program, case.inputs)
    for name, got in zip(program.outputs, emulate(case, tmp_path, find_target(core)).solve([x]), strict=True):
        np.testing.assert_array_equal(got, wanted[name], err_msg=name)


@pytest.mark.parametrize("operator", [o for o in UNARY_OPERATORS if o not in ("not", "isnan")])
def test_a_function_is_printed_only_where_it_is_missing(operator: str) -> None:
    program = build.elementwise({"x": np.ones(3, "float32")}, {"r": lambda x: Unary(operator, x, "float32")})
    case = build.Case(program, {})
    host, metal = (replace(case, freestanding=f).sources("s")[0]["s.c"] for f in (False, True))
    function = f"static inline float s_{operator}_float32("
    assert (function in host) == ((operator, "float32") in FUNCTIONS or operator == "abs")
    assert (function in metal) == (operator in ("exp", "tanh", "erf", "abs"))
    assert ("static inline float s_rintf(" in metal) == (operator == "round")
    for text, called in (
        (host, ("sqrt", "sin", "cos", "floor", "ceil", "round")),
        (metal, ("sqrt", "log", "sin", "cos")),
    ):
        if operator in called:
            assert f"float {library_name(operator, 'float32')}(float a);" in text and "inline" not in text


def test_code_does_not_grow_with_the_iterations(tmp_path: Path) -> None:
    """Flash but for the thresholds, which each iteration has of its own, and RAM."""
    sizes = {}
    for k in (8, 32):
        (tmp_path / str(k)).mkdir()
        firmware = emulate(cases.lista_case("float32", iterations=k), tmp_path / str(k)).firmware
        sizes[k] = (firmware.flash_bytes - 9 * 4 * k, firmware.ram_bytes)
    assert sizes[8] == sizes[32]
