"""Blocks turned in registers: problems put side by side and apart again, and copies with rows and columns exchanged."""

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

from unfoldc.kernels.loops import Buffer, Const, For, Load, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.passes.pack_operands import copied
from unfoldc.kernels.printers.c.turned_copies import turned_copy
from unfoldc.kernels.schedule import schedule


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
VARIANTS = [v for v in ("O3", "O0", "gcc") if v in build.VARIANTS]
SIZES = (1, 3, 16, 35)
ROWS, COLUMNS = 32, 48


def _copy_of(size: int, dtype: str, lanes: int) -> Any:
    x = np.zeros(size, dtype)
    program = build.elementwise({"x": x}, {"y": lambda x: build.programs.add(x, Const(1.0, dtype))})
    return replace(build.Case(program, {"x": x}), lanes=lanes)


def _turned(dtype: str) -> LoopProgram:
    """t = xᵀ in begin, given out at the end."""
    buffers = {
        "x": Buffer("x", dtype, (1, ROWS, COLUMNS, 1), "input"),
        "t": Buffer("t", dtype, (1, COLUMNS, 1, ROWS), "state"),
        "y": Buffer("y", dtype, (1, COLUMNS, 1, ROWS), "output"),
    }
    at = (Const(0, "int32"), Var("c"), Const(0, "int32"), Var("r"))
    end = For("c", COLUMNS, (For("r", ROWS, (Store("y", at, Load("t", at, dtype)),)),))
    return LoopProgram(buffers, {}, ("x",), ("y",), (copied(buffers["x"], 1, "t"),), (Step(0, 1, ()),), (end,))


class _Vectors(build.Case):  # type: ignore[misc, name-defined]
    """A case printed with vectors, as the pipeline prints the host's form for one problem."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheduled", schedule(self.program, self.spec, vectors=True))


CASES = {f"s{n}_{d}_{lanes}": _copy_of(n, d, lanes) for n in SIZES for d, lanes in (("float32", 32), ("float64", 8))}
CASES |= {f"turned_{d}": _Vectors(_turned(d), {"x": np.zeros((ROWS, COLUMNS), d)}) for d in ("float32", "float64")}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "blocks"
    folder.mkdir(exist_ok=True)
    return cache(lambda variant: build.Library(CASES, variant, folder))


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("s")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_problem_keeps_its_numbers(libraries: Any, variant: str, name: str) -> None:
    (x,) = CASES[name].inputs.values()
    for batch in (CASES[name].lanes, 2 * CASES[name].lanes + 3):
        given = np.arange(batch * x.size, dtype=x.dtype).reshape(batch, x.size)
        np.testing.assert_array_equal(libraries(variant).solve(name, {"x": given}, batch, 1)["y"], given + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_become_columns(libraries: Any, variant: str, dtype: str) -> None:
    x = np.arange(ROWS * COLUMNS, dtype=dtype).reshape(1, 1, ROWS, COLUMNS, 1)
    text = CASES[f"turned_{dtype}"].sources("s")[0]["s.c"]
    assert f"s_{dtype}_turned(t, {ROWS}, x, {COLUMNS}, {COLUMNS}, {ROWS});" in text
    y = libraries(variant).solve(f"turned_{dtype}", {"x": x}, 1, 1)["y"]
    np.testing.assert_array_equal(y.reshape(COLUMNS, ROWS), x.reshape(ROWS, COLUMNS).T)


def _other(**shapes: tuple[int, ...]) -> LoopProgram:
    program = _turned("float32")
    return replace(program, buffers={n: replace(b, shape=shapes.get(n, b.shape)) for n, b in program.buffers.items()})


def _body(program: LoopProgram) -> Any:
    (nest,) = program.begin
    assert isinstance(nest, Nest)
    return nest.body


def test_other_copies_are_loops() -> None:
    program = _turned("float32")
    assert turned_copy(program, _body(program)) is not None
    ((outer,),) = (_body(program),)
    inner = outer.body[0]
    short = replace(outer, extent=8)
    same_order = replace(inner.body[0], value=Load("t", inner.body[0].indices, "float32"))
    moved = replace(inner.body[0], indices=(Const(1, "int32"), *inner.body[0].indices[1:]))
    for other in (
        (short,),
        (replace(outer, body=(replace(inner, body=(same_order,)),)),),
        (replace(outer, body=(replace(inner, body=(moved,)),)),),
        (outer, outer),
    ):
        assert turned_copy(program, other) is None
    assert turned_copy(_other(x=(1, ROWS, COLUMNS, 2)), _body(program)) is None  # columns lie apart
