"""Loop nests -> parts: which loops the lanes share, which they run in step, and over how many lanes a sum is split.

Each loop is mapped in every way that is right, and the cheapest is taken. A loop whose runs depend on each other is run
in step; what it contains is mapped in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.gpu.choices import GRID, WARP
from unfoldc.kernels.gpu.costs import ranges_of, runs_of, wait, work
from unfoldc.kernels.gpu.jam import jammed
from unfoldc.kernels.gpu.parallel import is_parallel, parallel_loops
from unfoldc.kernels.gpu.parts import LANE, All, InStep, One, Part, Parts, Remark, Share, Work
from unfoldc.kernels.gpu.split_sums import split_sums, stored_last
from unfoldc.kernels.index_bounds import Ranges, loop_range
from unfoldc.kernels.loops import For, Nest, Stmt, Store

_Weighed = tuple[float, Parts]
_FEWER_LOOPS = 1.25  # how much longer the lanes may take when fewer loops are shared, so that each keeps more to itself
_LITTLE = 64.0  # additions that are not worth a barrier of the grid


@dataclass(frozen=True)
class Lanes:
    """Whom the work is for: the `group` as in the choices, and how many lanes that is, estimated for a grid."""

    group: int
    count: int

    @property
    def widest_team(self) -> int:
        """The lanes that may combine a scalar in the middle of a shared run."""
        return min(self.count, WARP)


def distribute(body: Sequence[Stmt], lanes: Lanes, ranges: Ranges) -> Parts:
    """The parts of one function; `ranges` bounds the number of the iteration."""
    return _merged(_block(body, lanes, ranges)[1])


def _block(body: Sequence[Stmt], lanes: Lanes, ranges: Ranges) -> _Weighed:
    cost, parts = 0.0, []
    for s in body:
        if isinstance(s, Nest):
            own, inner = _block(s.body, lanes, ranges)
            parts += [Remark(s.origins), *inner] if s.origins else [*inner]
        elif isinstance(s, For):
            own, inner = _loop(s, lanes, ranges)
            parts += inner
        elif isinstance(s, Store):
            own, part = work((s,), ranges) + wait(lanes.group), One((s,))
            parts.append(part)
        else:
            own = work((s,), ranges)
            parts.append(All((s,)))
        cost += own
    return cost, tuple(parts)


def _loop(loop: For, lanes: Lanes, ranges: Ranges) -> _Weighed:
    """The cheapest way to run a loop."""
    found: list[_Weighed] = []
    inside = build.statements(loop.body)
    stores = any(isinstance(s, Store) for s in inside)
    if not stores:
        found.append(_alike(loop, lanes, ranges))
    elif not build.carries_scalars(loop):
        found.append((work((loop,), ranges) + wait(lanes.group), (One((loop,)),)))
        if lanes.group == GRID and found[0][0] < wait(GRID) + _LITTLE:
            return found[0]  # the others may have to wait for it, but need not wait to share it
    parallel = stores and is_parallel(loop, ranges)
    if parallel:
        found.append(_shared(loop, lanes, ranges))
    if stores and (not parallel or (isinstance(loop.extent, int) and loop.extent < lanes.count)):
        found.append(_in_step(loop, lanes, ranges))
    return min(found, key=lambda weighed: weighed[0])


def _alike(loop: For, lanes: Lanes, ranges: Ranges) -> _Weighed:
    """A loop without stores: each lane runs all of it, or its part of the sums."""
    plain: _Weighed = (work((loop,), ranges), (All((loop,)),))
    split = split_sums((loop,), lanes.count, ranges) if lanes.count > 1 and lanes.group else None
    return plain if split is None else min(plain, (work(split, ranges), (All(split),)), key=lambda w: w[0])


def _in_step(loop: For, lanes: Lanes, ranges: Ranges) -> _Weighed:
    cost, parts = _block(loop.body, lanes, {**ranges, loop.var: loop_range(loop)})
    return runs_of(loop.extent, ranges) * cost, (InStep(loop.var, loop.extent, _merged(parts)),)


def _shared(loop: For, lanes: Lanes, ranges: Ranges) -> _Weighed:
    """The runs of the loop, and perhaps of those directly inside, dealt out to lanes or teams of them."""
    chain = [loop]
    if isinstance(loop.extent, int):
        chain += parallel_loops(loop.body, ranges_of(chain, ranges))
    found: list[_Weighed] = []
    for depth in range(1, len(chain) + 1):
        for team in _teams(lanes):
            for loops in _forms(chain[:depth], lanes, ranges):
                weighed = _dealt(loops, team, lanes, ranges)
                if weighed is not None and (not found or weighed[0] * _FEWER_LOOPS < min(found, key=lambda w: w[0])[0]):
                    found.append(weighed)
    return min(found, key=lambda weighed: weighed[0])


def _forms(loops: list[For], lanes: Lanes, ranges: Ranges) -> list[list[For]]:
    """The loops, and in a grid the same with a short loop inside turned around the sums, whose factors lie far away."""
    last = loops[-1]
    inner = last.body[0]
    if lanes.group != GRID or len(last.body) > 1 or not isinstance(inner, For):
        return [loops]
    body = jammed(inner) if is_parallel(inner, ranges_of(loops, ranges)) else None
    return [loops] if body is None else [[*loops[:-1], replace(last, body=body)], loops]


def _teams(lanes: Lanes) -> list[int]:
    return [1 << i for i in range(lanes.widest_team.bit_length())]


def _dealt(loops: Sequence[For], team: int, lanes: Lanes, ranges: Ranges) -> _Weighed | None:
    """The runs of nested loops dealt out to teams of that size, if there is something for a team to share."""
    inner = ranges_of(loops, ranges)
    if lanes.group == GRID:  # else teams that do not divide a sum count as endless
        inner = {**inner, LANE: (0, team - 1)}
    body: tuple[Work, ...] | None = loops[-1].body
    if team > 1:
        body = split_sums(loops[-1].body, team, inner)
        body = body and stored_last(body, f"put_{loops[-1].var}_")
    if body is None:
        return None
    part = Share(tuple(s.var for s in loops), tuple(s.extent for s in loops), body, team)
    rounds = -(-runs_of(part.runs, ranges) * team // lanes.count)
    return rounds * work(body, inner) + wait(lanes.group), (part,)


def _merged(parts: Sequence[Part]) -> Parts:
    """Neighbouring parts that are alike for all lanes as one."""
    result: list[Part] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, All) and isinstance(last, All):
            result[-1] = All((*last.body, *part.body))
        else:
            result.append(part)
    return tuple(result)
