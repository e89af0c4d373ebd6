"""Rough cost of statements and of waiting, in additions: enough to choose between two ways of sharing work."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.gpu.choices import GRID, WARP
from unfoldc.kernels.gpu.parts import Combine, Settle, Work
from unfoldc.kernels.index_bounds import Ranges, longest, loop_range
from unfoldc.kernels.loops import Binary, Expr, For, Load, Nest, Store, Unary

_FUNCTION = 8.0  # a root, a quotient or an elementary function
_SHUFFLE = 6.0
_WAIT_WARP, _WAIT_BLOCK, _WAIT_GRID = 6.0, 12.0, 400.0


def wait(group: int) -> float:
    """A barrier of so many lanes."""
    if group == GRID:
        return _WAIT_GRID
    return 0.0 if group == 1 else _WAIT_WARP if group <= WARP else _WAIT_BLOCK


def combination(team: int) -> float:
    """What it takes to combine a scalar over a team."""
    steps = max(team.bit_length() - 1, 0)
    return _SHUFFLE * min(steps, 5) + (2 * _WAIT_BLOCK + 5 * _SHUFFLE) * (steps > 5)


def work(body: Sequence[Work], ranges: Ranges, free: frozenset[str] = frozenset()) -> float:
    """What statements take when one lane runs them; of a triangle half of the square.

    Reading and writing the buffers `free`, which are in registers, takes nothing.
    """
    total = 0.0
    for s in body:
        if isinstance(s, Combine):
            total += combination(s.team)
        elif isinstance(s, Settle):
            total += 1.0
        elif isinstance(s, For):
            total += runs_of(s.extent, ranges) * work(s.body, {**ranges, s.var: loop_range(s)}, free)
        elif isinstance(s, Nest):
            total += work(s.body, ranges, free)
        else:
            kept = isinstance(s, Store) and s.buffer in free
            total += (not kept) + sum(_expression(e, free) for e in build.expressions(s))
    return total


def runs_of(extent: int | Expr, ranges: Ranges) -> int:
    """How often a loop runs, half of the most where that depends on the loops around it."""
    return extent if isinstance(extent, int) else max(longest(extent, ranges) // 2, 1)


def _expression(top: Expr, free: frozenset[str]) -> float:
    total = 0.0
    for e in build.walk(top):
        if isinstance(e, Load):
            total += e.buffer not in free
        elif isinstance(e, Unary) and e.operator not in ("neg", "abs", "not"):
            total += _FUNCTION
        elif isinstance(e, Binary) and e.dtype.startswith("float"):
            total += _FUNCTION if e.operator in ("div", "pow", "fmod") else 0.5
    return total


def ranges_of(loops: Sequence[For], around: Ranges) -> Ranges:
    """The ranges inside of loops."""
    result = dict(around)
    for loop in loops:
        result[loop.var] = loop_range(loop)
    return result
