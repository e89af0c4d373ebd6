"""Runs nests over the rows of the same arrays in one loop over rows, so that a row is still in the cache when the next
nest reads it.

    for i < 64: for j: p[i, j] = f(x[i, j], x[i + 1, j])
    for i < 64: for j: x[i, j] = g(p[i, j], p[i - 1, j])
becomes
    for i < 64: for j: p[i, j] = f(...)
                for j: x[i, j] = g(...)
Where the second reads rows that the first makes later, it stays so many rows behind; where one has more rows than the
other, it runs alone for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses, reads, touches
from unfoldc.kernels.index_bounds import Ranges, bounds, loop_range
from unfoldc.kernels.loops import Buffer, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var

_MOST_BEHIND = 2  # rows
_MOST_LONGER = 1 / 8  # of the rows
_CACHE = 32 * 1024  # bytes: arrays that fit the first cache together are there anyhow


@dataclass(frozen=True)
class _Member:
    """A loop over rows that starts `behind` rows after the first one of its group."""

    loop: For
    behind: int = 0

    @property
    def end(self) -> int:
        assert isinstance(self.loop.extent, int)
        return self.behind + self.loop.extent


def fuse_rows(body: Sequence[Stmt], buffers: Mapping[str, Buffer], cache: int = _CACHE) -> tuple[Stmt, ...]:
    """Joins nests without sums that follow each other and have arrays in common, more than `cache` bytes in all."""
    result: list[Stmt] = []
    group: list[_Member] = []
    origins: list[str] = []

    def close() -> None:
        if len(group) > 1:
            loops = _together(group, buffers, cache)
            result[-len(group) :] = [Nest(tuple(dict.fromkeys(origins)), loops)] if origins else loops
        group.clear()
        origins.clear()

    for s in body:
        loop = _row_loop(s)
        member = _joining(loop, group, buffers, cache) if loop is not None else None
        if member is None:
            close()
        if loop is not None:
            group.append(member or _Member(loop))
            origins.extend(s.origins if isinstance(s, Nest) else ())
        result.append(s)
    close()
    return tuple(result)


def _row_loop(s: Stmt) -> For | None:
    """The loop over rows of a nest that stores each of its results at once; None for other statements."""
    while isinstance(s, Nest) and len(s.body) == 1:
        s = s.body[0]
    if not isinstance(s, For) or not all(isinstance(b, For) for b in s.body):
        return None
    plain = all(
        isinstance(b, Store) or (isinstance(b, Let) and not b.mutable) or (isinstance(b, For) and _counted(b))
        for b in build.statements((s,))
    )
    return s if plain else None


def _counted(loop: For) -> bool:
    return isinstance(loop.extent, int) and loop.kind == "serial"


def _joining(loop: For, group: Sequence[_Member], buffers: Mapping[str, Buffer], cache: int) -> _Member | None:
    """The loop as the next member of the group, as few rows behind as it may be; None where it had better wait."""
    if not group or not isinstance(loop.extent, int):
        return None
    extents = [loop.extent, *(m.end - m.behind for m in group)]
    if max(extents) > min(extents) * (1 + _MOST_LONGER):
        return None
    if any(isinstance(s, For) and s.var == group[0].loop.var for s in build.statements(loop.body)):
        return None
    before = {a.buffer for m in group for a in accesses((m.loop,))}
    own = touches((loop,))
    if not before & own or sum(buffers[name].nbytes for name in before | own) <= cache:
        return None
    # At least a row behind what it reads: a load that covers parts of two stores waits until both are in the cache.
    made = {a.buffer for m in group if m.behind == group[-1].behind for a in accesses((m.loop,)) if a.stored}
    behind = group[-1].behind + (not made.isdisjoint(reads((loop,))))
    while any(not _may_follow(m.loop, loop, behind - m.behind) for m in group):
        behind += 1
        if behind > group[-1].behind + _MOST_BEHIND:
            return None
    return _Member(loop, behind)


def _may_follow(first: For, second: For, behind: int) -> bool:
    """Whether row i of the second may run before rows i + behind + 1 and later of the first."""
    assert isinstance(first.extent, int) and isinstance(second.extent, int)
    rows = min(second.extent, first.extent - behind - 1)  # of the second, with rows of the first left
    if rows < 1:
        return True
    own, later = Var("row"), Var("later")
    ranges: Ranges = {own.name: (0, rows - 1), later.name: (0, first.extent - behind - 2)}
    at = build.add(build.add(own, later), build.index(behind + 1))
    a, ranges = _placed(first, at, "'", ranges)
    b, ranges = _placed(second, own, "", ranges)
    return all(
        _apart(x.indices, y.indices, ranges)
        for x in accesses((a,))
        for y in accesses((b,))
        if x.buffer == y.buffer and (x.stored or y.stored)
    )


def _placed(loop: For, row: Expr, mark: str, ranges: Ranges) -> tuple[Nest, Ranges]:
    """What the loop does in a row, with the variables of its inner loops marked and bounded."""
    inner = {s.var: s for s in build.statements(loop.body) if isinstance(s, For)}

    def change(e: Expr) -> Expr | None:
        if (isinstance(e, Var) and e.name in inner) or isinstance(e, Local):
            return replace(e, name=e.name + mark)
        return row if e == Var(loop.var) else None

    bounded = {**ranges, **{name + mark: loop_range(s) for name, s in inner.items()}}
    return Nest((), tuple(build.map_stmt(s, change) for s in loop.body)), bounded


def _apart(a: Sequence[Expr], b: Sequence[Expr], ranges: Ranges) -> bool:
    """Whether two places never meet: along some axis one lies before the other, whatever the data."""
    pairs = [p for p in zip(a, b, strict=True) if not any(isinstance(e, Load) for i in p for e in build.walk(i))]
    differences = [d for x, y in pairs for d in (build.sub(x, y), build.sub(y, x))]
    return any(bounds(d, ranges)[0] > 0 for d in differences)


def _together(group: Sequence[_Member], buffers: Mapping[str, Buffer], cache: int) -> tuple[Stmt, ...]:
    """Loops over the rows in which the same members run, and in them over those of the next axis."""
    first = group[0].loop
    cuts = sorted({m.behind for m in group} | {m.end for m in group})
    result: list[Stmt] = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        body: list[Stmt] = []
        for m in group:
            if m.behind <= start < m.end:
                row = build.add(Var(first.var), build.index(start - m.behind))
                body += [build.substitute(s, m.loop.var, row) for s in m.loop.body]
        result.append(replace(first, extent=end - start, body=fuse_rows(body, buffers, cache)))
    return tuple(result)
