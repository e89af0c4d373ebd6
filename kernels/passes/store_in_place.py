"""Lets a loop nest store straight into the place where its result is needed, sparing a buffer and a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.loops import Expr, For, Load, Nest, Stmt, Store


def store_in_place(nests: Sequence[Nest], copies: Sequence[Nest], keep: set[str]) -> tuple[tuple[Stmt, ...], set[str]]:
    """Joins nests and the final copies, leaving out copies that can go; also returns the buffers that went with them.

    A copy `target <- source` goes if the nest that makes `source` may write `target` at once: nothing reads the old
    target afterwards, the nest itself reads it only at the element it writes, and nobody else needs `source` (`keep`).
    """
    work = list(nests)
    left: list[Nest] = []
    gone: set[str] = set()
    for copy in copies:
        source, target = whole_copy(copy)
        if source is None or target is None or source in keep or source in gone:
            left.append(_rename_nest(copy, {}))
            continue
        maker = next((i for i, n in enumerate(work) if source in writes((n,))), None)
        others = [c for c in copies if c is not copy and source in reads((c,))]
        if (
            maker is None
            or others
            or target in reads(work[maker + 1 :])
            or not _own_element_only(work[maker], target, source)
        ):
            left.append(copy)
            continue
        work = [_rename_nest(n, {source: target}) for n in work]
        gone.add(source)
    return (*work, *left), gone


def _innermost(nest: Nest) -> Stmt | None:
    body: tuple[Stmt, ...] = nest.body
    while len(body) == 1 and isinstance(body[0], For):
        body = body[0].body
    return body[0] if len(body) == 1 else None


def whole_copy(nest: Nest) -> tuple[str | None, str | None]:
    """Source and target if the nest copies element by element at the same index."""
    s = _innermost(nest)
    if isinstance(s, Store) and isinstance(s.value, Load) and s.value.indices == s.indices:
        return s.value.buffer, s.buffer
    return None, None


def _own_element_only(nest: Nest, target: str, source: str) -> bool:
    """Whether every read of `target` is at the index where the nest stores `source`."""
    stores = [s for s in build.statements((nest,)) if isinstance(s, Store) and s.buffer == source]
    if len(stores) != 1:
        return False
    return all(e.indices == stores[0].indices for e in build.loads((nest,)) if e.buffer == target)


def _rename_nest(nest: Nest, names: dict[str, str]) -> Nest:
    def change(e: Expr) -> Expr | None:
        if isinstance(e, Load) and e.buffer in names:
            return Load(names[e.buffer], tuple(build.map_expr(i, change) for i in e.indices), e.dtype)
        return None

    def statement(s: Stmt) -> Stmt:
        s = (
            build.map_stmt(s, change)
            if not isinstance(s, For | Nest)
            else replace(s, body=tuple(map(statement, s.body)))
        )
        if isinstance(s, Store) and s.buffer in names:
            return Store(names[s.buffer], s.indices, s.value)
        return s

    return Nest(nest.origins, tuple(statement(s) for s in nest.body))
