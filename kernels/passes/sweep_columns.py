"""Turns a reduction whose weights lie contiguous along the results into sweeps over the results.

    for i: acc = 0; for j: acc += w[j, i] x[j]; y[i] = f(acc)
becomes
    for i: t[i] = 0
    for j by U: for i: t[i] += w[U j, i] x[U j] + w[U j + 1, i] x[U j + 1] + ...
    for i: y[i] = f(t[i])
so that the innermost loop runs over contiguous memory and vectorises; U columns at a time keep t in registers longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, count

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, linear, longest, loop_range
from unfoldc.kernels.loops import Assign, Binary, Buffer, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.block_rows import rows_are_independent

_Parts = tuple[list[Stmt], Let, For, Assign, list[Stmt], list[Stmt]]


def sweep_columns(
    body: Sequence[Stmt], buffers: Mapping[str, Buffer], columns: int, shortest: int
) -> tuple[tuple[Stmt, ...], dict[str, Buffer]]:
    """Applies it where it fits and there are at least `shortest` results; returns the new scratch buffers too."""
    added: dict[str, Buffer] = {}

    def visit(stmts: Sequence[Stmt], ranges: Ranges) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in stmts:
            if isinstance(s, For) and s.kind != "lanes":
                length = longest(s.extent, ranges)
                parts = _parts(s) if length >= shortest else None
                if parts is not None and _contiguous(parts, s.var, buffers) and rows_are_independent(s, ranges):
                    name = _unused(f"a_{parts[1].name}", {*buffers, *added})
                    added[name] = Buffer(name, parts[1].value.dtype, (length,), "scratch")
                    result.extend(_sweep(s, parts, name, columns))
                else:
                    result.append(replace(s, body=visit(s.body, {**ranges, s.var: loop_range(s)})))
            elif isinstance(s, Nest):
                result.append(replace(s, body=visit(s.body, ranges)))
            else:
                result.append(s)
        return tuple(result)

    return visit(body, {}), added


def _unused(name: str, taken: Set[str]) -> str:
    return next(n for n in chain([name], (f"{name}_{i}" for i in count(1))) if n not in taken)


def _parts(loop: For) -> _Parts | None:
    """Before, accumulator, reduction loop, its assignment, what precedes that, after; None if of another form."""
    reductions = [i for i, s in enumerate(loop.body) if isinstance(s, For)]
    if len(reductions) != 1:
        return None
    at = reductions[0]
    reduction = loop.body[at]
    before = list(loop.body[:at])
    mutable = [s for s in before if isinstance(s, Let) and s.mutable]
    if not isinstance(reduction, For) or len(mutable) != 1 or any(not isinstance(s, Let) for s in before):
        return None
    *inner, last = reduction.body
    if (
        not isinstance(last, Assign)
        or last.name != mutable[0].name
        or any(not isinstance(s, Let) or s.mutable for s in inner)
    ):
        return None
    value = last.value
    if not (
        isinstance(value, Binary) and value.operator in ("add", "sub") and value.a == Local(last.name, value.dtype)
    ):
        return None
    rest = [s for s in before if s is not mutable[0]]
    after = list(loop.body[at + 1 :])
    return rest, mutable[0], reduction, last, list(inner), after


def _contiguous(parts: _Parts, var: str, buffers: Mapping[str, Buffer]) -> bool:
    """Whether a constant is read along `var` in its last axis and nothing is read along `var` in another axis."""
    rest, start, reduction, last, inner, _ = parts
    along = False
    names = {s.name for s in rest if isinstance(s, Let)}
    if any(isinstance(e, Local) and e.name in names for e in build.walk(start.value)):
        return False
    for top in [*(e for s in inner for e in build.expressions(s)), last.value]:
        for e in build.walk(top):
            if isinstance(e, Local) and e.name in names:
                return False
            if isinstance(e, Load):
                used = [any(isinstance(x, Var) and x.name == var for x in build.walk(i)) for i in e.indices]
                if any(used[:-1]):
                    return False
                if used and used[-1]:
                    if not _steps_by_one(e.indices[-1], var):
                        return False
                    along = True
    return along and reduction.extent != 1


def _steps_by_one(index: Expr, var: str) -> bool:
    terms = linear(index).terms
    return terms.pop(Var(var), 0) == 1 and not any(x == Var(var) for e in terms for x in build.walk(e))


def _sweep(loop: For, parts: _Parts, name: str, columns: int) -> list[Stmt]:
    rest, accumulator, reduction, last, inner, after = parts
    i = Var(loop.var)
    dtype = accumulator.value.dtype
    own = Load(name, (i,), dtype)
    result: list[Stmt] = [For(loop.var, loop.extent, (Store(name, (i,), accumulator.value),), "vector")]
    start = build.mul(Var(reduction.var), build.index(columns))
    together = [build.add(start, build.index(u)) for u in range(columns)]
    if isinstance(reduction.extent, int):
        blocks, left = divmod(reduction.extent, columns)
        if blocks > 1:
            result.append(For(reduction.var, blocks, (_columns(loop, reduction, last, inner, own, together),)))
        else:
            left = reduction.extent
        done = reduction.extent - left
        if left:
            places: list[Expr] = [build.index(done + u) for u in range(left)]
            result.append(_columns(loop, reduction, last, inner, own, places))
    else:
        over = build.binary("mod", reduction.extent, build.index(columns))
        count = build.binary("floordiv", reduction.extent, build.index(columns))
        single: list[Expr] = [build.add(build.sub(reduction.extent, over), Var(reduction.var))]
        result.append(For(reduction.var, count, (_columns(loop, reduction, last, inner, own, together),)))
        result.append(For(reduction.var, over, (_columns(loop, reduction, last, inner, own, single),)))
    body = [*rest, Let(accumulator.name, own), *after]
    result.append(For(loop.var, loop.extent, tuple(body), "vector"))
    return result


def _columns(loop: For, reduction: For, last: Assign, inner: list[Stmt], own: Load, places: Sequence[Expr]) -> For:
    assert isinstance(last.value, Binary)
    body: list[Stmt] = []
    total: Expr = own
    declared = {s.name for s in inner if isinstance(s, Let)}
    for u, place in enumerate(places):

        def change(e: Expr, u: int = u, place: Expr = place) -> Expr | None:
            if isinstance(e, Local) and e.name in declared:
                return Local(f"{e.name}_{u}", e.dtype)
            return place if isinstance(e, Var) and e.name == reduction.var else None

        for s in inner:
            assert isinstance(s, Let)
            body.append(Let(f"{s.name}_{u}", build.map_expr(s.value, change)))
        total = build.binary(last.value.operator, total, build.map_expr(last.value.b, change))
    return For(loop.var, loop.extent, (*body, Store(own.buffer, own.indices, total)), "vector")
