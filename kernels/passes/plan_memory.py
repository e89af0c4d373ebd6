"""Places scratch buffers in one arena of fixed size; buffers that are never live together share their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfoldc.kernels.accesses import touches
from unfoldc.kernels.loops import Buffer, LoopProgram, Stmt

# part of the program -> first and last of its statements that uses the buffer
_Lives = dict[int, tuple[int, int]]


def plan_memory(program: LoopProgram, alignment: int = 8) -> LoopProgram:
    """Fills `scratch_offsets` and `scratch_bytes`: a region per element type, first fit over top-level statements.

    Buffers start at multiples of `alignment` bytes, which is a multiple of 8.
    """
    scratch = {n: b for n, b in program.buffers.items() if b.space == "scratch"}
    lives: dict[str, _Lives] = {}
    for number, part in enumerate(program.parts):
        for name, span in _lifetimes(part, scratch).items():
            lives.setdefault(name, {})[number] = span
    offsets: dict[str, int] = {}
    start = 0
    for dtype in sorted({b.dtype for b in scratch.values()}, key=lambda d: (-np.dtype(d).itemsize, d)):
        own = {n: b for n, b in scratch.items() if b.dtype == dtype and n in lives}
        start += _round_up(_place(own, lives, offsets, start, alignment), alignment)
    kept = {n: b for n, b in program.buffers.items() if b.space != "scratch" or n in lives}
    return replace(program, buffers=kept, scratch_offsets=offsets, scratch_bytes=start)


def _lifetimes(part: Sequence[Stmt], scratch: dict[str, Buffer]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for position, s in enumerate(part):
        for name in touches((s,)) & scratch.keys():
            first, _ = found.get(name, (position, position))
            found[name] = (first, position)
    return found


def _place(
    own: dict[str, Buffer], lives: dict[str, _Lives], offsets: dict[str, int], start: int, alignment: int
) -> int:
    """First-fit decreasing; returns the bytes that the region takes."""
    placed: list[str] = []
    size = 0
    for name in sorted(own, key=lambda n: (-own[n].nbytes, n)):
        at = start
        for rival in sorted((p for p in placed if _together(lives[p], lives[name])), key=lambda p: offsets[p]):
            if at + own[name].nbytes <= offsets[rival]:
                break
            at = max(at, _round_up(offsets[rival] + own[rival].nbytes, alignment))
        offsets[name] = at
        placed.append(name)
        size = max(size, at - start + own[name].nbytes)
    return size


def _together(a: _Lives, b: _Lives) -> bool:
    """Whether both are live at once in some part."""
    return any(a[part][0] <= b[part][1] and b[part][0] <= a[part][1] for part in a.keys() & b.keys())


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
