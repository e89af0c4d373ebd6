"""Rows of several nests in one loop: what joins, how far behind, and that every iterate stays what it was."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.build import index
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Binary, Buffer, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.fuse_results import fuse_results
from unfoldc.kernels.passes.fuse_rows import fuse_rows
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.passes.split_ranges import split_ranges
from unfoldc.kernels.passes.vector_axis import Layouts
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.verify import verify_loops


def _load(name: str) -> Any:
    if name not in sys.modules:
        path = Path(__file__).parents[1] / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


stencils = _load("random_stencils")
F, ROWS, COLUMNS = "float32", 12, 3
BUFFERS = {n: Buffer(n, F, (ROWS, COLUMNS), "state") for n in "pxy"}
FITS = 3 * ROWS * COLUMNS * 4  # bytes of all three


def joined(program: LoopProgram) -> LoopProgram:
    buffers = program.buffers
    return program.mapped(lambda body: fuse_rows(fuse_results(body, buffers), buffers, cache=0))


@pytest.mark.parametrize("bits", [128, 256])
def test_images_keep_their_iterates(bits: int) -> None:
    """Joined, split at borders, with vectors, with a memory plan: the same numbers, bit for bit."""
    fewer = borders = 0
    for seed in range(bits, bits + 12):
        plain = stencils.Stencils(seed).program()
        x = {"x": np.random.default_rng(seed).standard_normal(plain.buffers["x"].shape).astype(F)}
        x["x"][2, 1] = np.nan
        want = run(plain, x)["out"]
        rows = joined(plain)
        split = rows.mapped(partial(split_ranges, layouts=Layouts(rows), vector_bits=bits))
        for changed in (rows, split, plan_memory(vector_results(split, bits, 6), 64)):
            verify_loops(changed)
            np.testing.assert_array_equal(run(changed, x)["out"], want, err_msg=f"seed {seed}")
        fewer += len(rows.steps[0].body) < len(plain.steps[0].body)
        borders += any(
            isinstance(e, Binary) and e.operator in ("lt", "ge", "min", "max") and e.a.dtype == "int32"
            for s in build.statements(changed.steps[0].body)
            if isinstance(s, For) and s.kind == "lanes"
            for top in build.expressions(s)
            for e in build.walk(top)
        )
    assert fewer > 4 and borders > 2


def rows_of(target: str, source: str, step: int, rows: int, var: str, shift: int = 0) -> Nest:
    """for i < rows: for j: target[i + shift, j] += source[i + step, j]."""
    i, j = Var(f"i{var}"), Var(f"j{var}")
    own = build.add(i, index(shift)), j
    value = build.add(Load(target, own, F), Load(source, (build.add(i, index(step)), j), F))
    return Nest((var,), (For(i.name, rows, (For(j.name, COLUMNS, (Store(target, own, value),)),)),))


def loops(*nests: Stmt, cache: int = 0) -> list[list[int]]:
    """The lengths of the loops over rows that become of the nests, one list for each statement that is left."""
    begin = tuple(
        For("f", ROWS, (For("g", COLUMNS, (Store(n, (Var("f"), Var("g")), Load("in", (Var("f"), Var("g")), F)),)),))
        for n in BUFFERS
    )
    end = (For("f", ROWS, (For("g", COLUMNS, (Store("out", (Var("f"), Var("g")), total()),)),)),)
    buffers = {n: Buffer(n, F, (ROWS, COLUMNS), space) for n, space in (("in", "input"), ("out", "output"))}
    plain = LoopProgram({**BUFFERS, **buffers}, {}, ("in",), ("out",), begin, (Step(0, 2, nests),), end)
    changed = plain.mapped(lambda body: fuse_rows(body, BUFFERS, cache) if body == nests else body)
    x = {"in": np.random.default_rng(3).standard_normal((ROWS, COLUMNS)).astype(F)}
    verify_loops(changed)
    np.testing.assert_array_equal(run(changed, x)["out"], run(plain, x)["out"])
    bodies = [s.body if isinstance(s, Nest) else (s,) for s in changed.steps[0].body]
    return [[int(str(f.extent)) for f in body if isinstance(f, For)] for body in bodies]


def total() -> Expr:
    p, x, y = (Load(n, (Var("f"), Var("g")), F) for n in BUFFERS)
    return build.add(p, build.mul(build.add(x, build.mul(y, build.literal(3, F))), build.literal(5, F)))


def test_rows_that_are_read_wait_until_they_are_made() -> None:
    reads_next = rows_of("p", "x", 1, ROWS - 1, "a")
    writes_x = rows_of("x", "p", 0, ROWS, "b")
    # A row behind: what was stored just now is not in the cache yet.
    assert loops(reads_next, writes_x) == [[1, ROWS - 2, 2]]
    assert loops(rows_of("x", "p", 0, ROWS, "a"), rows_of("p", "x", 1, ROWS - 1, "b")) == [[1, ROWS - 1]]
    far = rows_of("p", "x", 4, ROWS - 4, "b")
    assert loops(rows_of("x", "p", 0, ROWS - 4, "a"), far) == [[ROWS - 4], [ROWS - 4]]
    assert loops(rows_of("x", "p", 0, ROWS, "a"), rows_of("y", "x", 0, ROWS - 4, "b")) == [[ROWS], [ROWS - 4]]


def test_what_is_read_before_and_written_later_waits_as_well() -> None:
    """Row i of the first reads y[i], the second overwrites y[i + 1]: it must not run in the same row."""
    assert loops(rows_of("p", "y", 0, ROWS, "a"), rows_of("y", "x", 0, ROWS - 1, "b", shift=1)) == [[1, ROWS - 1]]


def test_only_large_arrays_that_both_touch() -> None:
    nests = rows_of("p", "x", 0, ROWS, "a"), rows_of("y", "x", 0, ROWS, "b")
    assert loops(*nests) == [[ROWS]]
    assert loops(*nests, cache=FITS - 1) == [[ROWS]]
    assert loops(*nests, cache=FITS) == [[ROWS], [ROWS]]
    assert loops(rows_of("p", "p", 0, ROWS, "a"), rows_of("y", "x", 0, ROWS, "b")) == [[ROWS], [ROWS]]
