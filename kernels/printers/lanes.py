"""Which expressions are vectors, and where their elements lie: the rules that the printers of C and of TVM share.

The elements of a vector are the runs of a loop of the kind "lanes", or problems side by side, which own the buffers
`varying`. What differs from element to element varies, else it is uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import half_turned
from unfoldc.kernels.lane_indices import Stopping, border, moves_along, stopping
from unfoldc.kernels.loops import Assign, Binary, Cast, Expr, For, Load, Local, Select, Unary, Var
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable

Indices = tuple[Expr, ...]


def varies(e: Expr, scalars: Container[str], varying: Container[str], lane: str) -> bool:
    """Whether a value differs from element to element; `scalars` are those that are vectors."""

    def one_of(*parts: Expr) -> bool:
        return any(varies(part, scalars, varying, lane) for part in parts)

    match e:
        case Local(name):
            return name in scalars
        case Load(buffer, indices):
            if one_of(*indices):
                raise NotVectorisable("an index depends on data")
            return buffer in varying or moves(indices, lane)
        case Unary(a=a) | Cast(a=a):
            return one_of(a)
        case Binary(a=a, b=b):
            return one_of(a, b) or bool(lane and border(e, lane))
        case Select(condition, a, b):
            return one_of(condition, a, b)
    return False


def moves(indices: Indices, lane: str) -> bool:
    """Whether a place moves with the variable of the loop."""
    return bool(lane) and any(Var(lane) in build.walk(i) for i in indices)


def neighbours(
    indices: Indices, shape: tuple[int, ...], lane: str, lanes: int
) -> tuple[Indices, Stopping | None, bool]:
    """Where the first of the neighbours lies that hold what the elements are to be, and how these are exchanged.

    First as at a border (None: not so), then, if the last item says so, both halves. Raises NotVectorisable for
    elements that are no neighbours.
    """

    def first(e: Expr) -> Expr | None:
        return build.ZERO if e == Var(lane) else None

    places, turned = list(indices), bool(half_turned(indices[-1], lane))
    found: Stopping | None = None
    if turned:
        places[-1] = Var(lane)
    for axis, index in enumerate(places):
        if Var(lane) in build.walk(index) and not moves_along(index, lane):
            found = stopping(index, lane, lanes, shape[axis])
            if found is None:
                raise NotVectorisable("elements of a vector at any places")
            places[axis] = build.index(found.start)
    return tuple(build.map_expr(i, first) for i in places), found, turned


def square_of_row_sums(
    loop: For, lane: str, shape_of: Callable[[str], tuple[int, ...]], ranges: Mapping[str, tuple[int, int | Expr]]
) -> tuple[str, str, Indices, int] | None:
    """For a sum over the rows of a square, which its vectors give together: the total, the buffer, its indices before
    the square, the rows; None for other loops."""
    match loop.body:
        case (Assign(name, Binary("add", Local(total), Load(buffer, (*lead, Var(row), Var(column))))),):
            rows, columns = shape_of(buffer)[-2:]
            square = loop.extent == rows == columns and ranges.get(row) == (0, rows - 1)
            if square and name == total and row == lane and column == loop.var:
                return name, buffer, tuple(lead), int(rows)
    return None
