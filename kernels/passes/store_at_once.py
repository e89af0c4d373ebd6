"""Lets a block of vectors that holds a whole result store it where it is needed, sparing a buffer and a copy.

    for i < 16 at once: acc = 0; for j: acc += w[j, i] x[j]; t[i] = f(acc)
    for i: x[i] = t[i]
becomes
    for i < 16 at once: acc = 0; for j: acc += w[j, i] x[j]; x[i] = f(acc)
since all of x has been read when the first element is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import touches, writes
from unfoldc.kernels.loops import Expr, For, Load, Nest, Stmt, Store
from unfoldc.kernels.passes.store_in_place import whole_copy


def copy_behind(body: Sequence[Stmt], maker: int) -> tuple[int, str, str] | None:
    """Which statement of a body copies all that statement `maker` stores, and from where to where.

    None if there is none, if anything else reads the source, or touches the target before the copy.
    """
    stored = writes((body[maker],))
    for at in range(maker + 1, len(body)):
        s = body[at]
        source, target = whole_copy(s) if isinstance(s, Nest) else (None, None)
        if source is None or target is None or source not in stored:
            continue
        between = [x for i, x in enumerate(body) if maker < i < at]
        others = [x for i, x in enumerate(body) if i not in (maker, at)]
        if target not in touches(between) and target not in stored and source not in touches(others):
            return at, source, target
    return None


def stored_at_once(body: tuple[Stmt, ...], source: str, target: str) -> tuple[Stmt, ...] | None:
    """The nest with its stores to `source` in `target`; None if it might still read there what it has overwritten."""
    inner = body
    while len(inner) == 1 and isinstance(inner[0], Nest):
        inner = inner[0].body
    if len(inner) != 1 or not isinstance(inner[0], For) or inner[0].kind != "lanes":
        return None
    began = False
    for s in inner[0].body:
        began = began or (isinstance(s, Store) and s.buffer == source)
        own = s.indices if isinstance(s, Store) else None
        if began and any(load.indices != own for load in build.loads((s,)) if load.buffer in (source, target)):
            return None
    return tuple(_renamed(s, source, target) for s in body)


def _renamed(s: Stmt, source: str, target: str) -> Stmt:
    def change(e: Expr) -> Expr | None:
        if isinstance(e, Load) and e.buffer == source:
            return Load(target, tuple(build.map_expr(i, change) for i in e.indices), e.dtype)
        return None

    if isinstance(s, For | Nest):
        return replace(s, body=tuple(_renamed(b, source, target) for b in s.body))
    s = build.map_stmt(s, change)
    return replace(s, buffer=target) if isinstance(s, Store) and s.buffer == source else s
