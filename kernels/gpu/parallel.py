"""Which loops may have their runs carried out in any order, by different lanes."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses
from unfoldc.kernels.index_bounds import Ranges, linear, loop_range
from unfoldc.kernels.loops import Expr, For, Let, Load, Local, Nest, Stmt, Var
from unfoldc.kernels.passes.block_rows import rows_are_independent


def is_parallel(loop: For, around: Ranges) -> bool:
    """Whether no run of the loop meets what another run writes, and none changes a scalar of the outside.

    So it is where each buffer that the body writes has an axis along which every access of the body is at one place,
    another one in each run; or by what is known of the ranges of indices. `around` are the loops outside.
    """
    if loop.kind == "lanes" or build.carries_scalars(loop):
        return False
    if any(isinstance(s, Nest) or (isinstance(s, For) and s.kind == "lanes") for s in build.statements(loop.body)):
        return False
    return _has_own_places(loop) or rows_are_independent(loop, around)


def parallel_loops(body: Sequence[Stmt], around: Ranges) -> list[For]:
    """The loops that a body begins with, each alone in the other, of a fixed extent, whose runs may be in any order."""
    found: list[For] = []
    ranges = dict(around)
    while len(body) == 1 and isinstance(loop := body[0], For):
        if not isinstance(loop.extent, int) or not is_parallel(loop, ranges):
            break
        found.append(loop)
        ranges[loop.var] = loop_range(loop)
        body = loop.body
    return found


def _has_own_places(loop: For) -> bool:
    places: dict[str, list[tuple[Expr, ...]]] = {}
    written: set[str] = set()
    for a in accesses(loop.body):
        places.setdefault(a.buffer, []).append(a.indices)
        written |= {a.buffer} if a.stored else set()
    inner = _bound_inside(loop.body)
    return all(
        any(_own_axis([indices[a] for indices in places[name]], loop.var, inner) for a in range(len(places[name][0])))
        for name in written
    )


def _own_axis(indices: Sequence[Expr], var: str, inner: frozenset[Expr]) -> bool:
    first = linear(indices[0])
    terms = first.moving
    factor = terms.pop(Var(var), 0)
    fixed = not any(x in inner or x == Var(var) or isinstance(x, Load) for e in terms for x in build.walk(e))
    if not factor or not fixed:
        return False
    whole = {**terms, Var(var): factor}
    others = (linear(i) for i in indices[1:])
    return all(o.constant == first.constant and o.moving == whole for o in others)


def _bound_inside(body: tuple[Stmt, ...]) -> frozenset[Expr]:
    """The variables and scalars that statements declare."""
    inside = build.statements(body)
    loops: set[Expr] = {Var(s.var) for s in inside if isinstance(s, For)}
    return frozenset(loops | {Local(s.name, s.value.dtype) for s in inside if isinstance(s, Let)})
