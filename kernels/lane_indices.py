"""Indices of the elements of a vector at a border, where they stop at the first or last place.

    x[min(j + 48, 62) + 1] for j < 16    is    x[48 .. 63] moved by one, the last element twice
so that a vector of neighbours and an exchange of its elements give what is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import COMPARISONS, Binary, Cast, Const, Expr, Var


@dataclass(frozen=True)
class Stopping:
    """Element l is at `start + min(max(l + step, first), last)`."""

    start: int
    step: int
    first: int
    last: int


def moves_along(index: Expr, lane: str) -> bool:
    """Whether an index grows by 1 from element to element."""
    terms = linear(index).terms
    return terms.pop(Var(lane), 0) == 1 and not any(Var(lane) in build.walk(e) for e in terms)


def stopping(index: Expr, lane: str, lanes: int, size: int) -> Stopping | None:
    """The places on an axis of `size` elements that the elements of a vector have; None for others than these."""
    places = [_value(index, lane, i) for i in range(lanes)]
    known = [p for p in places if p is not None]
    if len(known) < lanes or size < lanes or not 0 <= min(known) <= max(known) < size:
        return None
    start = min(*known, size - lanes)
    own = [p - start for p in known]
    for step in sorted(range(1 - lanes, lanes), key=abs):
        if own == [min(max(i + step, own[0]), own[-1]) for i in range(lanes)]:
            return Stopping(start, step, own[0], own[-1])
    return None


def border(e: Expr, lane: str) -> tuple[int, Expr] | None:
    """For a comparison of an index with a limit, by which elements differ: (sign, limit) for `sign * l` and the limit.

    None for other expressions.
    """
    if not isinstance(e, Binary) or e.operator not in COMPARISONS or e.a.dtype != "int32":
        return None
    terms = linear(build.sub(e.a, e.b)).terms
    sign = terms.pop(Var(lane), 0)
    if sign not in (1, -1) or any(Var(lane) in build.walk(x) for x in terms):
        return None

    def first(x: Expr) -> Expr | None:
        return build.ZERO if x == Var(lane) else None

    return sign, build.sub(build.map_expr(e.b, first), build.map_expr(e.a, first))


def _value(e: Expr, lane: str, at: int) -> int | None:
    """The index of an element, if it depends on nothing else."""
    match e:
        case Const(value):
            return int(value)
        case Var(name):
            return at if name == lane else None
        case Cast(a):
            return _value(a, lane, at) if not a.dtype.startswith("float") else None
        case Binary(operator, a, b):
            x, y = _value(a, lane, at), _value(b, lane, at)
            if x is None or y is None:
                return None
            found = {"add": x + y, "sub": x - y, "mul": x * y, "min": min(x, y), "max": max(x, y)}
            return found.get(operator)
    return None
