"""Bodies cut into parts: those with sums in order already, and those whose sums TVM's compiler may reorder.

TVM lets a compiled module reorder all sums or none. Loops of the kind "lanes" have their sums split as they should be;
sums over scalars become vector code only where the compiler may split them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, For, Let, Nest, Stmt

_WORTH = 8  # terms of a sum from which on a call of another function is worth it


@dataclass(frozen=True)
class Part:
    """Statements in a row; `in_order` where their sums are to stay as they are."""

    body: tuple[Stmt, ...]
    in_order: bool


@dataclass(frozen=True)
class Repeated:
    """Parts that run `extent` times, with the number of the run in `var`."""

    var: str
    extent: int
    parts: tuple[Part | Repeated, ...]


def parts_of(body: Sequence[Stmt]) -> tuple[Part | Repeated, ...]:
    """The parts of a body, in order: one where there is nothing to tell apart, or scalars that pass between."""
    pieces = [piece for s in body for piece in _pieces(s)]
    if any(isinstance(s, Let | Assign) for s in pieces):
        return (Part(tuple(body), has_lanes(body)),)
    found: list[Repeated | tuple[list[Stmt], bool | None]] = []
    for s in pieces:
        inner = parts_of(s.body) if isinstance(s, For) and s.kind != "lanes" and has_lanes((s,)) else ()
        if len(inner) > 1 and isinstance(s, For) and isinstance(s.extent, int):
            found.append(Repeated(s.var, s.extent, inner))
            continue
        order = _order(s)
        last = found[-1] if found else None
        if isinstance(last, tuple) and (order is None or last[1] in (None, order)):
            found[-1] = ([*last[0], s], last[1] if order is None else order)
        else:
            found.append(([s], order))
    return tuple(x if isinstance(x, Repeated) else Part(tuple(x[0]), bool(x[1])) for x in found)


def _pieces(s: Stmt) -> list[Stmt]:
    """A statement, or those inside of a nest without scalars that they share."""
    if not isinstance(s, Nest) or not has_lanes((s,)) or any(isinstance(x, Let | Assign) for x in s.body):
        return [s]
    first, *others = [piece for x in s.body for piece in _pieces(x)]
    return [Nest(s.origins, (first,)), *others]


def has_lanes(body: Sequence[Stmt]) -> bool:
    """Whether loops of the kind "lanes" are in a body."""
    return any(isinstance(s, For) and s.kind == "lanes" for s in build.statements(tuple(body)))


def _order(s: Stmt) -> bool | None:
    """Whether the sums of a statement are in order; None where it does not matter."""
    if has_lanes((s,)):
        return True
    return False if any(_sums(loop) for loop in build.statements((s,)) if isinstance(loop, For)) else None


def _sums(loop: For) -> bool:
    """Whether a loop adds many terms to a scalar from outside."""
    own = {s.name for s in loop.body if isinstance(s, Let)}
    many = not isinstance(loop.extent, int) or loop.extent >= _WORTH
    return many and any(
        isinstance(s, Assign)
        and isinstance(s.value, Binary)
        and s.value.operator == "add"
        and s.value.dtype.startswith("float")
        and s.name not in own
        for s in loop.body
    )
