"""Short loops over sums, turned inside out: what the sums share is then read once.

    for i < 5: acc = 0; for j: acc += E[r, j] R[j, i]; P[r, i] = acc
becomes
    acc_0 = 0; ..; for j: acc_0 += E[r, j] R[j, 0]; acc_1 += E[r, j] R[j, 1]; ..; P[r, 0] = acc_0; ..
"""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Nest, Stmt, Store, Var

_LONGEST = 8


def jammed(loop: For) -> tuple[Stmt, ...] | None:
    """The runs of a loop, independent of each other, side by side; None if it is not that simple.

    It must contain a loop over a fixed range, or there is nothing to gain.
    """
    inside = build.statements(loop.body)
    if not isinstance(loop.extent, int) or not 1 < loop.extent <= _LONGEST or any(isinstance(s, Nest) for s in inside):
        return None
    sums = [s for s in inside if isinstance(s, For)]
    own = {s.name for s in inside if isinstance(s, Let)}
    if not sums or not all(isinstance(s.extent, int) for s in sums) or any(_stores(s) for s in sums):
        return None
    if any(isinstance(s, Assign) and s.name not in own for s in inside):
        return None
    runs = [[_run(s, loop.var, i, own) for s in loop.body] for i in range(loop.extent)]
    if reads(loop.body) & writes(loop.body):
        return None
    return _together(runs)


def _stores(loop: For) -> bool:
    return any(isinstance(s, Store) for s in build.statements(loop.body))


def _run(s: Stmt, variable: str, i: int, own: set[str]) -> Stmt:
    """A statement of the run i, with scalars of its own."""

    def change(e: Expr) -> Expr | None:
        if e == Var(variable):
            return build.index(i)
        return Local(f"{e.name}_{i}", e.dtype) if isinstance(e, Local) and e.name in own else None

    def one(s: Stmt) -> Stmt:
        if isinstance(s, For):
            return For(s.var, s.extent, tuple(map(one, s.body)), s.kind)
        if isinstance(s, Nest):
            return s
        value = build.map_expr(s.value, change)
        if isinstance(s, Store):
            return Store(s.buffer, tuple(build.map_expr(x, change) for x in s.indices), value)
        return Let(f"{s.name}_{i}", value, s.mutable) if isinstance(s, Let) else Assign(f"{s.name}_{i}", value)

    return one(s)


def _together(runs: Sequence[Sequence[Stmt]]) -> tuple[Stmt, ...]:
    result: list[Stmt] = []
    for group in zip(*runs, strict=True):
        first = group[0]
        if isinstance(first, For):
            bodies = [s.body for s in group if isinstance(s, For)]
            result.append(For(first.var, first.extent, _together(bodies), first.kind))
        else:
            result += group
    return tuple(result)
