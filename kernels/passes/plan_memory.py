"""Places scratch buffers in one arena of fixed size; buffers that are never live together share their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Buffer, Load, LoopProgram, Stmt, Store

_ALIGN = 8


def plan_memory(program: LoopProgram) -> LoopProgram:
    """Fills `scratch_offsets` and `scratch_bytes`: a region per element type, first fit over top-level statements."""
    scratch = {n: b for n, b in program.buffers.items() if b.space == "scratch"}
    lives: dict[str, tuple[int, int, int]] = {}
    for number, part in enumerate((program.begin, *(s.body for s in program.steps), program.end)):
        for name, (first, last) in _lifetimes(part, scratch).items():
            lives[name] = (number, first, last)
    offsets: dict[str, int] = {}
    start = 0
    for dtype in sorted({b.dtype for b in scratch.values()}, key=lambda d: (-np.dtype(d).itemsize, d)):
        own = {n: b for n, b in scratch.items() if b.dtype == dtype and n in lives}
        size = _place(own, lives, offsets, start)
        start += (size + _ALIGN - 1) // _ALIGN * _ALIGN
    kept = {n: b for n, b in program.buffers.items() if b.space != "scratch" or n in lives}
    return replace(program, buffers=kept, scratch_offsets=offsets, scratch_bytes=start)


def _lifetimes(part: Sequence[Stmt], scratch: dict[str, Buffer]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for position, s in enumerate(part):
        names = {t.buffer for t in build.statements((s,)) if isinstance(t, Store)}
        names |= {e.buffer for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)}
        for name in names & scratch.keys():
            first, _ = found.get(name, (position, position))
            found[name] = (first, position)
    return found


def _place(own: dict[str, Buffer], lives: dict[str, tuple[int, int, int]], offsets: dict[str, int], start: int) -> int:
    """First-fit decreasing; returns the bytes that the region takes."""
    placed: list[str] = []
    size = 0
    for name in sorted(own, key=lambda n: (-own[n].nbytes, n)):
        part, first, last = lives[name]
        rivals = [p for p in placed if lives[p][0] == part and not (lives[p][2] < first or last < lives[p][1])]
        at = start
        for rival in sorted(rivals, key=lambda p: offsets[p]):
            if at + own[name].nbytes <= offsets[rival]:
                break
            at = max(at, offsets[rival] + own[rival].nbytes)
        offsets[name] = at
        placed.append(name)
        size = max(size, at - start + own[name].nbytes)
    return size
