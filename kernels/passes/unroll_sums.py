"""Unrolls the sums of vectors of results altogether, in iterations that are hardly more than that.

A short product, once for each iteration, waits for its numbers as long as it computes: written out, its first ones
are taken from the registers in which they were just made. In longer code, or under another loop, it would not pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, For, Nest, Stmt

_MOST = 512  # additions of vectors, some 4 KiB of code


def unroll_sums(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements of an iteration with such loops of the kind "unroll"; unchanged if they are too long."""
    return tuple(map(_unrolled, body)) if 0 < sum(map(_additions, _sums(body))) <= _MOST else body


def _sums(body: Sequence[Stmt]) -> list[For]:
    """Loops of fixed length with nothing but scalars in them, in loops of the kind "lanes" that stand in no other."""
    found: list[For] = []
    for s in body:
        if isinstance(s, Nest):
            found += _sums(s.body)
        elif isinstance(s, For) and s.kind == "lanes":
            found += [x for x in s.body if isinstance(x, For) and _is_short(x)]
    return found


def _is_short(loop: For) -> bool:
    return isinstance(loop.extent, int) and not any(isinstance(s, For | Nest) for s in loop.body)


def _additions(loop: For) -> int:
    assert isinstance(loop.extent, int)
    return loop.extent * sum(isinstance(s, Assign) for s in build.statements(loop.body))


def _unrolled(s: Stmt) -> Stmt:
    if isinstance(s, Nest):
        return replace(s, body=tuple(map(_unrolled, s.body)))
    if isinstance(s, For) and s.kind == "lanes":
        short = [replace(x, kind="unroll") if isinstance(x, For) and _is_short(x) else x for x in s.body]
        return replace(s, body=tuple(short))
    return s
