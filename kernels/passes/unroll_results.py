"""Writes out several runs of short loops over results, for compilers that do not.

    for i < 34: y[i] = a[i] - b[i]
becomes, 4 runs at a time,
    for i < 8: y[4 i] = a[4 i] - b[4 i]; y[4 i + 1] = ...
    for i < 2: y[32 + i] = a[32 + i] - b[32 + i]
A processor that does one thing after the other counts and jumps less, and compilers take a loop that copies for
`memcpy` no more, which on bare metal may go byte by byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Nest, Stmt, Store, Var

_MOST = 8  # statements of a loop, each some instructions


def unroll_results(body: Sequence[Stmt], runs: int) -> tuple[Stmt, ...]:
    """Applies it to every innermost serial loop of few statements that stores; runs keep their order."""
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For) and s.kind == "serial" and _is_short(s):
            result.extend(_written_out(s, runs))
            continue
        if isinstance(s, Nest) or (isinstance(s, For) and s.kind == "serial"):
            s = replace(s, body=unroll_results(s.body, runs))
        result.append(s)
    return tuple(result)


def _is_short(loop: For) -> bool:
    plain = isinstance(loop.extent, int) and not any(isinstance(s, For | Nest) for s in loop.body)
    return plain and len(loop.body) <= _MOST and any(isinstance(s, Store) for s in loop.body)


def _written_out(loop: For, runs: int) -> list[Stmt]:
    assert isinstance(loop.extent, int)
    blocks, rest = divmod(loop.extent, runs)
    if not blocks:
        return [loop]
    start = build.mul(Var(loop.var), build.index(runs)) if blocks > 1 else build.ZERO
    body = tuple(s for u in range(runs) for s in _run(loop, build.add(start, build.index(u)), f"_u{u}"))
    result: list[Stmt] = [replace(loop, extent=blocks, body=body, kind="rolled") if blocks > 1 else Nest((), body)]
    if rest > 1:
        moved = build.add(Var(loop.var), build.index(blocks * runs))
        result.append(replace(loop, extent=rest, body=tuple(_run(loop, moved, ""))))
    elif rest:
        result.append(Nest((), tuple(_run(loop, build.index(blocks * runs), ""))))
    return result


def _run(loop: For, place: Expr, mark: str) -> list[Stmt]:
    """One run of a loop, its scalars with a mark behind their names."""
    declared = {s.name for s in loop.body if isinstance(s, Let)}

    def change(e: Expr) -> Expr | None:
        if isinstance(e, Local) and e.name in declared:
            return Local(e.name + mark, e.dtype)
        return place if isinstance(e, Var) and e.name == loop.var else None

    found = [build.map_stmt(s, change) for s in loop.body]
    return [replace(s, name=s.name + mark) if isinstance(s, Let | Assign) and s.name in declared else s for s in found]
