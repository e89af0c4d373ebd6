"""Copies the computation of a result for several results and jams the copies' reduction loops into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, Expr, For, Let, Local, Stmt, Var
from unfoldc.kernels.passes.share_products import share_products

Place = Mapping[str, Expr]
"""Loop variable -> where this copy stands."""

_MOST_PARTS = 8


def jam(
    body: Sequence[Stmt], places: Sequence[Place], in_flight: int, window: str = "", rows: Sequence[int] = ()
) -> tuple[Stmt, ...]:
    """`body` at all places; loops run once for all of them.

    Where fewer than `in_flight` sums grow in a loop, each is split into parts that are added up behind it. Scalars of
    copy r have the suffix `_r`. The loop over `window` is unrolled inside the loops that it holds: where copy r stands
    `rows[r]` places further, element j of its window is what element 0 is to the copy j places further.
    """
    body = share_products(body) if in_flight else body
    declared = {s.name for s in build.statements(tuple(body)) if isinstance(s, Let)}

    def copy(s: Stmt, r: int) -> Stmt:
        def change(e: Expr) -> Expr | None:
            if isinstance(e, Local) and e.name in declared:
                return Local(f"{e.name}_{r}", e.dtype)
            return places[r].get(e.name) if isinstance(e, Var) else None

        s = build.map_stmt(s, change)
        if isinstance(s, Let):
            return replace(s, name=f"{s.name}_{r}")
        return replace(s, name=f"{s.name}_{r}") if isinstance(s, Assign) and s.name in declared else s

    def together(part: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in part:
            if isinstance(s, For) and s.var == window:
                result.extend(slid(s, s.body))
            elif isinstance(s, For):
                result.extend(_in_parts(replace(s, body=together(s.body)), in_flight))
            else:
                result.extend(copy(s, r) for r in range(len(places)))
        return tuple(result)

    def slid(over: For, part: Sequence[Stmt]) -> tuple[Stmt, ...]:
        if len(part) == 1 and isinstance(part[0], For):
            return (replace(part[0], body=slid(over, part[0].body)),)
        assert isinstance(over.extent, int)
        steps = sorted(
            ((j, r) for j in range(over.extent) for r in range(len(places))), key=lambda s: s[0] + rows[s[1]]
        )
        own = {f"{s.name}_{r}" for s in part if isinstance(s, Let) for r in range(len(places))}
        return tuple(
            _renamed(copy(build.substitute(s, over.var, build.index(j)), r), own, f"w{j}")
            for j, r in steps
            for s in part
        )

    return together(body)


def can_slide(loop: For) -> bool:
    """Whether a loop over a window only adds to sums, in one innermost body, so that the order does not matter."""
    inner: For = loop
    while len(inner.body) == 1 and isinstance(inner.body[0], For):
        inner = inner.body[0]
    return bool(_sums(inner))


def _renamed(s: Stmt, names: Set[str], suffix: str) -> Stmt:
    def change(e: Expr) -> Expr | None:
        return Local(e.name + suffix, e.dtype) if isinstance(e, Local) and e.name in names else None

    s = build.map_stmt(s, change)
    return replace(s, name=s.name + suffix) if isinstance(s, Let) and s.name in names else s


def _in_parts(loop: For, in_flight: int) -> Sequence[Stmt]:
    """The loop with each of its sums in several parts, if there are too few of them and nothing else in it."""
    sums = _sums(loop)
    if not sums or not isinstance(loop.extent, int):
        return [loop]
    parts = _parts(loop.extent, min(_MOST_PARTS, -(-in_flight // len(sums))))
    if parts < 2:
        return [loop]
    count, rest = divmod(loop.extent, parts)
    start = build.mul(Var(loop.var), build.index(parts))
    body = [s for p in range(parts) for s in _part(loop, build.add(start, build.index(p)), p, p)]
    zeros = [Let(f"{n}p{p}", build.literal(0, dtype), True) for p in range(1, parts) for n, dtype in sums.items()]
    left = [s for p in range(rest) for s in _part(loop, build.index(count * parts + p), p, parts + p)]
    totals = []
    for name, dtype in sums.items():
        totals.append(Assign(name, _total([Local(f"{name}p{p}" if p else name, dtype) for p in range(parts)])))
    return [*zeros, replace(loop, extent=count, body=tuple(body)), *left, *totals]


def _parts(terms: int, most: int) -> int:
    """Into how many parts a sum is split so that its longest chain of additions is shortest, that of the parts too."""
    return min(range(1, max(1, most) + 1), key=lambda p: (-(-terms // p) + (p - 1).bit_length(), terms % p > 0, p))


def _total(parts: Sequence[Expr]) -> Expr:
    """The sum of neighbours, and of these."""
    half = (len(parts) + 1) // 2
    return build.add(_total(parts[:half]), _total(parts[half:])) if len(parts) > 1 else parts[0]


def _sums(loop: For) -> dict[str, str]:
    """The scalars to which the loop adds, with their types; empty if it does anything else or reads them otherwise."""
    found: dict[str, str] = {}
    for s in loop.body:
        if isinstance(s, Let) and not s.mutable:
            continue
        if not isinstance(s, Assign) or s.name in found:
            return {}
        value = s.value
        if not (isinstance(value, Binary) and value.operator in ("add", "sub") and value.dtype.startswith("float")):
            return {}
        if value.a != Local(s.name, value.dtype):
            return {}
        found[s.name] = value.dtype
    read = [e for e in build.within(loop.body) if isinstance(e, Local)]
    return found if sum(e.name in found for e in read) == len(found) else {}


def _part(loop: For, place: Expr, part: int, copy: int) -> list[Stmt]:
    """The body at one place, adding to the sums' given part; what it declares gets the copy's number."""
    declared = {s.name for s in loop.body if isinstance(s, Let)}
    sums = _sums(loop)

    def change(e: Expr) -> Expr | None:
        if isinstance(e, Local) and e.name in declared:
            return Local(f"{e.name}c{copy}", e.dtype)
        if isinstance(e, Local) and e.name in sums and part:
            return Local(f"{e.name}p{part}", e.dtype)
        return place if isinstance(e, Var) and e.name == loop.var else None

    result: list[Stmt] = []
    for s in loop.body:
        s = build.map_stmt(s, change)
        if isinstance(s, Let):
            s = replace(s, name=f"{s.name}c{copy}")
        elif isinstance(s, Assign) and part:
            s = replace(s, name=f"{s.name}p{part}")
        result.append(s)
    return result
