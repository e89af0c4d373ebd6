"""Square roots of vectors by estimates: their largest error, special values, and where they stand."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.loops import Buffer, For, Load, LoopProgram, Step, Store, Unary, Var
from unfoldc.kernels.printers.c.expressions import Expressions
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.vectors import Vectors


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
WIDTH, LANES = 256, 32
LIMIT = 1.0  # units in the last place, as `vector_root.py` says
VARIANTS = [v for v in ("O3", "O0", "gcc") if v in build.VARIANTS]


def _case(lanes: int) -> Any:
    x = np.zeros(WIDTH, np.float32)
    program = build.elementwise({"x": x}, {"y": lambda x: Unary("sqrt", x, "float32")})
    return replace(build.Case(program, {"x": x}), lanes=lanes)


CASES = {f"root{lanes}": _case(lanes) for lanes in (16, LANES)}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "roots"
    folder.mkdir(exist_ok=True)
    return cache(lambda variant: build.Library(CASES, variant, folder))


def values(library: Any, name: str, x: np.ndarray) -> np.ndarray:
    padded = np.resize(x, -(-x.size // (WIDTH * LANES)) * WIDTH * LANES)
    got = library.solve(name, {"x": padded.reshape(-1, WIDTH)}, padded.size // WIDTH, 1)["y"]
    return np.asarray(got.ravel()[: x.size])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_root_is_further_off_than_stated(libraries: Any, variant: str, name: str) -> None:
    rng = np.random.default_rng(5)
    # Every exponent, random fractions; two neighbouring exponents have all that a root can depend on.
    bits = np.repeat(np.arange(1, 255, dtype=np.uint32) << np.uint32(23), 200)
    bits |= rng.integers(0, 1 << 23, bits.size, dtype=np.uint32)
    more = rng.integers(0x3F800000, 0x40800000, 100_000, dtype=np.uint32)
    x = np.concatenate([bits, more, np.array([1 << 23, 0x7F7FFFFF, 0x3F7FFFFF], np.uint32)]).view(np.float32)
    right = np.sqrt(x.astype(np.float64))
    units = np.abs(values(libraries(variant), name, x) - right) / np.spacing(right.astype(np.float32))
    i = int(np.argmax(units))
    assert units[i] <= LIMIT, f"the root of {x[i]!r} is {units[i]:.2f} units off"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_infinities_zeros_and_nan_keep_their_meaning(libraries: Any, variant: str, name: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -1e-30, 4.0], np.float32)
    got = values(libraries(variant), name, x)
    np.testing.assert_array_equal(got, np.array([0, 0, np.inf, np.nan, np.nan, np.nan, np.nan, 2], np.float32))


def _lanes_program(rows: int, lanes: int) -> LoopProgram:
    """The root of `rows` vectors, one after the other in a loop, or of one alone."""
    at = (Var("r"), Var("l")) if rows > 1 else (Var("l"),)
    buffers = {n: Buffer(n, "float32", (rows, lanes)[-len(at) :], s) for n, s in (("x", "input"), ("y", "output"))}
    store = Store("y", at, Unary("sqrt", Load("x", at, "float32"), "float32"))
    body: Any = (For("l", lanes, (store,), "lanes"),)
    if rows > 1:
        body = (For("r", rows, body),)
    return LoopProgram(buffers, {}, ("x",), ("y",), (), (Step(0, 1, ()),), body)


@pytest.mark.parametrize(("rows", "lanes", "many"), [(1, 16, False), (4, 16, True), (4, 8, False)])
def test_where_vectors_wait_for_each_other_the_root_is_the_processor_s_own(rows: int, lanes: int, many: bool) -> None:
    program = _lanes_program(rows, lanes)
    vectors = Vectors("s", program)
    around = Expressions(program, {"x": "x", "y": "y"}, Helpers("s"))
    loop = program.end[0]
    assert isinstance(loop, For)
    if rows > 1:
        around.ranges["r"] = 0, rows - 1
        assert isinstance(loop.body[0], For)
        loop = loop.body[0]
    assert isinstance(loop.body[0], Store)
    text = vectors.expressions(loop, around).text(loop.body[0].value)
    assert text.startswith(f"s_x{lanes}_sqrt_{'of_many_' if many else ''}float32_v(")
