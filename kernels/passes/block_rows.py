"""Unroll and jam: several neighbouring results share one reduction loop, each in a named scalar of its own.

    for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = acc
becomes, for blocks of R rows,
    for i: acc_0 = acc_1 = ... = 0; for j: acc_0 += w[R i, j] x[j]; acc_1 += w[R i + 1, j] x[j]; ...
so that x[j] is loaded once for R products and R additions are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var


def block_rows(body: Sequence[Stmt], rows: int) -> tuple[Stmt, ...]:
    """Applies the transformation to every innermost result loop around a reduction."""
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest):
            result.append(Nest(s.origins, block_rows(s.body, rows)))
        elif isinstance(s, For) and rows > 1 and encloses_reduction(s) and rows_are_independent(s):
            result.extend(_block(s, rows))
        elif isinstance(s, For):
            result.append(For(s.var, s.extent, block_rows(s.body, rows), s.kind))
        else:
            result.append(s)
    return tuple(result)


def encloses_reduction(loop: For) -> bool:
    """Whether the loop declares an accumulator and reduces into it in a loop directly inside."""
    accumulators = {s.name for s in loop.body if isinstance(s, Let) and s.mutable}
    reductions = [s for s in loop.body if isinstance(s, For)]
    assigned = [{a.name for a in build.statements(r.body) if isinstance(a, Assign)} for r in reductions]
    return bool(assigned) and all(names and names <= accumulators for names in assigned)


def rows_are_independent(loop: For) -> bool:
    """Whether no run of the loop reads or overwrites what another run writes."""
    body = build.statements(loop.body)
    if build.carries_scalars(loop) or any(isinstance(s, Nest) for s in body):
        return False
    written: dict[str, tuple[Expr, ...]] = {s.buffer: s.indices for s in body if isinstance(s, Store)}
    places = [(s.buffer, s.indices) for s in body if isinstance(s, Store)]
    places += [
        (e.buffer, e.indices)
        for s in loop.body
        for top in build.expressions(s)
        for e in build.walk(top)
        if isinstance(e, Load)
    ]
    own = all(Var(loop.var) in indices for indices in written.values())
    return own and all(indices == written.get(buffer, indices) for buffer, indices in places)


def _block(loop: For, rows: int) -> list[Stmt]:
    blocks, rest = divmod(loop.extent, rows)
    result: list[Stmt] = []
    if blocks > 1:
        start = build.mul(Var(loop.var), build.index(rows))
        result.append(For(loop.var, blocks, _jam(loop, [build.add(start, build.index(r)) for r in range(rows)])))
    elif blocks == 1:
        result.append(Nest((), _jam(loop, [build.index(r) for r in range(rows)], "b")))
    if rest:
        result.append(Nest((), _jam(loop, [build.index(blocks * rows + r) for r in range(rest)], "r")))
    return result


def _jam(loop: For, places: Sequence[Expr], mark: str = "") -> tuple[Stmt, ...]:
    declared = {s.name for s in build.statements(loop.body) if isinstance(s, Let)}

    def copy(s: Stmt, r: int) -> Stmt:
        def change(e: Expr) -> Expr | None:
            if isinstance(e, Local) and e.name in declared:
                return Local(f"{e.name}_{mark}{r}", e.dtype)
            return places[r] if isinstance(e, Var) and e.name == loop.var else None

        s = build.map_stmt(s, change)
        if isinstance(s, Let):
            return Let(f"{s.name}_{mark}{r}", s.value, s.mutable)
        if isinstance(s, Assign) and s.name in declared:
            return Assign(f"{s.name}_{mark}{r}", s.value)
        return s

    def jam(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, For):
                result.append(For(s.var, s.extent, jam(s.body), s.kind))
            else:
                result.extend(copy(s, r) for r in range(len(places)))
        return tuple(result)

    return jam(loop.body)
