"""Marks the short loops over the terms of sums that a compiler is to write out in full.

What such a loop sums up is needed right behind it. Written out, it has no end to be guessed wrong, and its last terms
overlap with what follows. Inside a further loop, it would let a compiler prepare all numbers that the runs of that loop
share, and put them aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels.loops import Assign, For, Nest, Stmt

_MOST = 256  # additions to vectors: some 2.5 KB of instructions, a small part of the cache for them


def unroll_sums(body: Sequence[Stmt], most: int = _MOST) -> tuple[Stmt, ...]:
    """The body with the kind "unroll" for such loops directly inside those of the kind "lanes".

    `most` is the most additions that are written out.
    """
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest):
            s = replace(s, body=unroll_sums(s.body, most))
        elif isinstance(s, For) and s.kind == "lanes":
            s = replace(s, body=tuple(written_out(b, most) if isinstance(b, For) else b for b in s.body))
        result.append(s)
    return tuple(result)


def written_out(loop: For, most: int = _MOST) -> For:
    """A short loop over sums with the kind "unroll"; another one as it is."""
    if not isinstance(loop.extent, int) or any(isinstance(s, For) for s in loop.body):
        return loop
    sums = sum(isinstance(s, Assign) for s in loop.body)
    return replace(loop, kind="unroll") if 0 < sums * loop.extent <= most else loop
