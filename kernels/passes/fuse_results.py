"""Joins loop nests over the same results, one of which computes with what the other made at the same place.

    for i: t[i] = f(i)
    for i: u[i] = g(t[i])
becomes
    for i: v = f(i); t[i] = v; u[i] = g(v)
so that v stays in a register: in a short solver the way through memory takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, loop_range
from unfoldc.kernels.loops import Expr, For, Let, Load, Local, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.block_rows import rows_are_independent


def fuse_results(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """Joins each nest without sums to the nest before it, where no run of the loops meets what another run writes.

    So it does in loops over nests.
    """
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For) and all(isinstance(b, Nest) for b in s.body):
            s = replace(s, body=fuse_results(s.body))
        joined = _joined(result[-1], s) if result else None
        if joined is None:
            result.append(s)
        else:
            result[-1] = joined
    return tuple(result)


def _joined(first: Stmt, second: Stmt) -> Nest | None:
    a, b = _chain(first), _chain(second)
    if a is None or b is None or [s.extent for s in a] != [s.extent for s in b] or not _reads_what(a, b):
        return None
    if any(isinstance(s, For) for s in b[-1].body):
        return None
    names = {old.var: new.var for old, new in zip(b, a, strict=True)}

    def change(e: Expr) -> Expr | None:
        return Var(names[e.name]) if isinstance(e, Var) and e.name in names else None

    moved = tuple(build.map_stmt(s, change) for s in b[-1].body)
    inner = _forwarded((*a[-1].body, *moved))
    loops: list[For] = []
    for s in reversed(a):
        loops.append(replace(s, body=inner))
        inner = (loops[-1],)
    ranges: Ranges = {}
    for loop in reversed(loops):
        if not rows_are_independent(loop, ranges):
            return None
        ranges = {**ranges, loop.var: loop_range(loop)}
    origins = [o for s in (first, second) if isinstance(s, Nest) for o in s.origins]
    return Nest(tuple(dict.fromkeys(origins)), inner)


def _chain(s: Stmt) -> list[For] | None:
    """The loops directly inside one another, of fixed length, around what stores results; None for other statements."""
    body: tuple[Stmt, ...] = s.body if isinstance(s, Nest) else (s,)
    loops: list[For] = []
    while len(body) == 1 and isinstance(body[0], For) and isinstance(body[0].extent, int) and body[0].kind == "serial":
        loops.append(body[0])
        body = body[0].body
    if not loops or any(isinstance(x, Nest) for x in body) or not any(isinstance(x, Store) for x in body):
        return None
    return loops


def _reads_what(a: list[For], b: list[For]) -> bool:
    """Whether the second computes with anything that the first stores."""
    stored = {s.buffer for s in a[-1].body if isinstance(s, Store)}
    loads = {
        e.buffer for s in b[-1].body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)
    }
    return bool(stored & loads)


def _forwarded(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body with each value that is stored and read again at the same place in a scalar."""
    known: dict[Load, Local] = {}
    result: list[Stmt] = []
    for s in body:
        s = build.map_stmt(s, lambda e: known.get(e) if isinstance(e, Load) else None)
        if isinstance(s, Store):
            load = Load(s.buffer, s.indices, s.value.dtype)
            if not isinstance(s.value, Local):
                name = f"{s.buffer}_at"
                while any(isinstance(x, Let) and x.name == name for x in result):
                    name += "_"
                result.append(Let(name, s.value))
                s = replace(s, value=Local(name, s.value.dtype))
            known[load] = s.value  # type: ignore[assignment]
        result.append(s)
    return tuple(result)
