"""Bounds of indices in triangular loops, and the passes that change such loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import bounds, half_turned, linear, longest, loop_range
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Binary, Buffer, Expr, For, Let, Load, Local, LoopProgram, Stmt, Store, Var
from unfoldc.kernels.passes.block_rows import block_rows, rows_are_independent
from unfoldc.kernels.passes.nest_holes import skeleton
from unfoldc.kernels.verify import VerificationError, verify_loops

_I, J, R = Var("i"), Var("j"), Var("r")
ONE = build.index(1)


def test_a_triangle_is_exact() -> None:
    """for i < 8: for j < 7 - i: for r < j % 4; all values are tried."""
    rest = build.binary("mod", J, build.index(4))
    loops = [For("i", 8, ()), For("j", build.sub(build.index(7), _I), ()), For("r", rest, ())]
    ranges = {loop.var: loop_range(loop) for loop in loops}
    runs = [(i, j, r) for i in range(8) for j in range(7 - i) for r in range(j % 4)]
    forms: list[tuple[Expr, list[int], bool]] = [
        (build.add(build.add(_I, J), ONE), [i + j + 1 for i, j, _ in runs], True),
        (build.sub(J, R), [j - r for i, j, r in runs], False),
        (build.add(build.sub(J, rest), R), [j - j % 4 + r for i, j, r in runs], True),
    ]
    for e, values, tight in forms:
        low, high = bounds(e, ranges)
        assert low <= min(values) and max(values) <= high
        assert not tight or (high - max(values) <= 1 and min(values) - low <= 1)
    assert longest(build.sub(build.index(7), _I), ranges) == 7 and longest(3, {}) == 3
    assert linear(build.sub(build.mul(_I, build.index(4)), J)).terms == {_I: 4, J: -1}


def test_of_a_choice_each_side_counts_with_what_stands_around_it() -> None:
    """Rows below i, where the last is read again beyond the border: they never reach i - 1 or go beyond i + 1."""
    ranges = {"i": (0, 7)}
    before = build.binary("max", build.sub(_I, ONE), build.ZERO)
    behind = build.add(build.binary("min", _I, build.index(6)), ONE)
    assert bounds(build.sub(_I, before), ranges) == (0, 1)
    assert bounds(build.sub(behind, _I), ranges) == (0, 1)
    assert bounds(build.sub(behind, before), ranges) == (1, 2)
    assert bounds(build.mul(behind, build.index(-3)), ranges) == (-21, -3)


def product(read_row: Expr, extent: int | Expr, stored: Expr = _I, inner: int | Expr = R) -> For:
    """for i < extent: acc = 0; for j < r: acc = acc - a[read_row, j] a[i, j]; a[stored, r] = acc."""
    load = (Load("a", (read_row, J), "float32"), Load("a", (stored, J), "float32"))
    step = Assign("acc", build.sub(Local("acc", "float32"), build.mul(*load)))
    body: tuple[Stmt, ...] = (
        Let("acc", Load("a", (stored, R), "float32"), mutable=True),
        For("j", inner, (step,)),
        Store("a", (stored, R), Local("acc", "float32")),
    )
    return For("i", extent, body)


def test_columns_that_are_done_do_not_bind_rows() -> None:
    """A column is written, those before it are read: its rows are independent. Others are not."""
    around = {"r": (0, 8)}
    assert rows_are_independent(product(R, 9), around)
    assert not rows_are_independent(product(R, 9, inner=9), around)  # reads its column in another row
    assert not rows_are_independent(product(R, 9, inner=build.add(R, ONE)), around)
    assert not rows_are_independent(product(R, 9, inner=_I), around)  # runs of different length
    assert not rows_are_independent(product(R, 9, stored=build.add(_I, J)), around)


def program(extent: int | Expr) -> LoopProgram:
    at = build.add(build.add(R, _I), ONE)
    first = For("r", 9, (For("i", 9, (Store("a", (R, _I), Load("x", (R, _I), "float32")),)),))
    copy = For("r", 9, (For("i", 9, (Store("y", (R, _I), Load("a", (R, _I), "float32")),)),))
    buffers = [Buffer(n, "float32", (9, 9), s) for n, s in (("x", "input"), ("y", "output"), ("a", "state"))]
    body = For("r", 9, (product(R, extent, at),))
    return LoopProgram({b.name: b for b in buffers}, {}, ("x",), ("y",), (first, body), (), (copy,))


@pytest.mark.parametrize("rows", [2, 3, 4, 16])
def test_blocks_of_a_triangle(rows: int) -> None:
    plain = program(build.sub(build.index(8), R))
    verify_loops(plain)
    blocked = replace(plain, begin=block_rows(plain.begin, rows))
    verify_loops(blocked)
    longer = len(build.statements(blocked.begin)) > len(build.statements(plain.begin))
    assert longer == (rows <= 8)  # no row of the triangle fills a block of 16
    x = np.random.default_rng(2).normal(size=(9, 9)).astype(np.float32)
    np.testing.assert_allclose(run(blocked, {"x": x})["y"], run(plain, {"x": x})["y"], rtol=1e-6)


def test_what_a_loop_may_not_run_over() -> None:
    for extent in (build.sub(build.index(9), R), Var("k"), Local("n", "int32"), build.literal(2.0, "float32"), 0):
        with pytest.raises(VerificationError):
            verify_loops(program(extent))


def test_extents_tell_bodies_apart() -> None:
    buffers = program(1).buffers
    one, same, other = (For("r", 9, (product(R, e),)) for e in (R, R, build.sub(build.index(8), R)))
    assert skeleton(one, buffers) == skeleton(same, buffers) != skeleton(other, buffers)


@pytest.mark.parametrize(("shift", "modulus", "found"), [(4, 8, 8), (3, 8, 0), (0, 8, 0), (4, 4, 0)])
def test_an_exchange_of_halves_is_told(shift: int, modulus: int, found: int) -> None:
    place = build.binary("mod", Binary("add", J, build.index(shift), "int32"), build.index(modulus))
    assert half_turned(place, "j") == found
    assert half_turned(place, "i") == 0
