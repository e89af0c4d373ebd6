"""Writes out several terms of a sum in each run of the loop over them.

    for j < 67: acc += w[i, j] x[j]
becomes, 4 terms at a time,
    for j < 16: acc += w[i, 4 j] x[4 j]; acc += w[i, 4 j + 1] x[4 j + 1]; ...
    acc += w[i, 64] x[64]; acc += w[i, 65] x[65]; ...
A processor that does one thing after the other counts and jumps less, for more instructions in its memory. The terms
keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Nest, Stmt, Var


def unroll_terms(body: Sequence[Stmt], terms: int) -> tuple[Stmt, ...]:
    """Applies it to every innermost loop that does nothing but sum; the whole loop is written out if it is no longer.

    Loops of the kind "lanes", and what is in them, stay.
    """
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest):
            result.append(replace(s, body=unroll_terms(s.body, terms)))
        elif not isinstance(s, For) or s.kind == "lanes":
            result.append(s)
        elif _sums(s):
            result.extend(_written_out(s, terms))
        else:
            result.append(replace(s, body=unroll_terms(s.body, terms)))
    return tuple(result)


def _sums(loop: For) -> bool:
    plain = all(isinstance(s, Assign) or (isinstance(s, Let) and not s.mutable) for s in loop.body)
    return plain and isinstance(loop.extent, int) and any(isinstance(s, Assign) for s in loop.body)


def _written_out(loop: For, terms: int) -> list[Stmt]:
    assert isinstance(loop.extent, int)
    runs, rest = divmod(loop.extent, terms)
    result: list[Stmt] = []
    if runs > 1:
        start = build.mul(Var(loop.var), build.index(terms))
        result.append(replace(loop, extent=runs, body=_copies(loop, start, terms)))
    elif runs:
        result.append(Nest((), _copies(loop, build.ZERO, terms)))
    if rest:
        result.append(Nest((), _copies(loop, build.index(runs * terms), rest)))
    return result


def _copies(loop: For, start: Expr, count: int) -> tuple[Stmt, ...]:
    """`count` runs of the loop from `start` on, with names of their own for what each declares."""
    declared = {s.name for s in loop.body if isinstance(s, Let)}
    result: list[Stmt] = []
    for u in range(count):
        place = build.add(start, build.index(u))

        def change(e: Expr, u: int = u, place: Expr = place) -> Expr | None:
            if isinstance(e, Local) and e.name in declared:
                return Local(f"{e.name}_t{u}", e.dtype)
            return place if isinstance(e, Var) and e.name == loop.var else None

        for s in loop.body:
            s = build.map_stmt(s, change)
            result.append(replace(s, name=f"{s.name}_t{u}") if isinstance(s, Let) else s)
    return tuple(result)
