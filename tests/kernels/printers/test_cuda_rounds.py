"""Rounds side by side: the variables of a later round, from those of the first."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from unfoldc.kernels.gpu.parts import Share
from unfoldc.kernels.gpu.places import Rows, spread
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Assign, Binary, Const, For, Let, Load, Local, Store, Var
from unfoldc.kernels.printers.cuda.rounds import copied, places_of, side_by_side, written_out

SHAPES = [(16,), (8, 4), (4, 8), (8, 4, 2), (6, 4), (3, 5), (2, 3, 8), (5, 2, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_places_are_right_wherever_they_are_given(shape: tuple[int, ...]) -> None:
    names = tuple("ijk"[: len(shape)])
    part, runs, found = Share(names, shape, ()), int(np.prod(shape)), 0
    for teams in (1, 2, 4, 8, 16, 32):
        for first in range(0, runs - teams + 1, teams):
            places = places_of(part, first, teams)
            if places is None:
                continue
            found += 1
            for lane in range(teams):
                start, there = np.unravel_index(lane, shape), np.unravel_index(lane + first, shape)
                moved = [int(s) + linear(places[n]).constant for n, s in zip(names, start, strict=True)]
                assert moved == [int(i) for i in there], (teams, first, lane)
    powers = all(n & (n - 1) == 0 for n in shape)
    assert found and (not powers or found == sum(runs // teams for teams in (1, 2, 4, 8, 16, 32) if teams <= runs))


def test_rounds_share_a_loop_and_have_scalars_of_their_own() -> None:
    i, j, acc = Var("i"), Var("j"), Local("acc", "float32")
    term = Binary("mul", Load("w", (i, j), "float32"), Load("x", (j,), "float32"), "float32")
    body = (
        Let("acc", Const(0.0, "float32"), True),
        For("j", 4, (Assign("acc", Binary("add", acc, term, "float32")),)),
        Store("y", (i,), acc),
    )
    part = Share(("i",), (16,), body)
    rounds = [copied(body, places_of(part, 8 * r, 8) or {}, f"_{r}", lambda buffer, at: None) for r in range(2)]
    together = side_by_side(rounds)
    assert [type(s) for s in together] == [Let, Let, For, Store, Store]
    loop = together[2]
    assert isinstance(loop, For) and [s.name for s in loop.body if isinstance(s, Assign)] == ["acc_0", "acc_1"]
    out = written_out(together, lambda loop: False)
    assert sum(isinstance(s, Assign) for s in out) == 8 and not any(isinstance(s, For) for s in out)
    kept = written_out(together, lambda loop: True)
    assert sum(isinstance(s, For) for s in kept) == 1


@pytest.mark.parametrize("shape", [(32, 64), (32, 6), (8, 4, 5, 2), (33, 3)], ids=str)
def test_lanes_that_read_different_rows_find_different_banks(shape: tuple[int, ...]) -> None:
    strides, _ = spread(shape, 4, Rows(0, whole=False))
    assert len({lane * strides[0] % 32 for lane in range(32)}) == 32
    strides, size = spread(shape, 4, Rows(0, whole=True))
    assert strides[0] % 4 == 0 and size % 4 == 0
    assert len({lane * strides[0] // 4 % 8 for lane in range(8)}) == 8


@pytest.mark.parametrize("rows", [Rows(), Rows(0, False), Rows(0, True), Rows(1, False)], ids=str)
def test_no_two_elements_share_a_place(rows: Rows) -> None:
    shape = (5, 3, 4)
    strides, size = spread(shape, 4, rows)
    places = {sum(i * s for i, s in zip(at, strides, strict=True)) for at in itertools.product(*map(range, shape))}
    assert len(places) == 60 and max(places) < size
