"""Runs nests that hand a large value to each other in one sweep over a few of its rows at a time.

    for i: for j: t[i, j] = f(...)
    for i: for c: acc = 0; for j: acc += t[i, j] v[j, c]; x[i, c] = g(acc)
    for j: for c: acc = 0; for i: acc += t[i, j] u[i, c]; y[j, c] = h(acc)
becomes, with R rows at a time,
    for c: for j: s[c, j] = 0
    for b: for i < R: for j: t[i, j] = f(...)
           for i < R: for c: ... x[R b + i, c] = g(acc)
           for c: for j: acc = s[c, j]; for i < R: acc += t[i, j] u[R b + i, c]; s[c, j] = acc
    for j: for c: y[j, c] = h(s[c, j])
so that of t only R rows exist, which stay in the cache nearest to the processor, instead of a matrix in memory that is
written once and read twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses, reads, writes
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.sweep_members import Member, row_members, sum_member

_SHORTEST = 32  # bytes of a row


@dataclass(frozen=True)
class SweepSizes:
    """When a sweep pays, in bytes: a value of at least `value`, whose rows are at least `row` bytes in one piece.

    `rows` rows are taken at a time, fewer where they would fill more than `tile` bytes, a share of the first cache, but
    no fewer than `fewest`; where those fill more, only a value of at least `large` pays, too much for the second cache.
    Of shorter rows, but for single numbers, as many are taken as fill `short` bytes, if that is given: along them, too,
    there are vectors then. Rows that a sweep keeps start at multiples of `line`.
    """

    value: int = 24 * 1024
    row: int = 256
    large: int = 1024 * 1024
    tile: int = 16 * 1024
    fewest: int = 4
    rows: int = 8
    short: int = 0
    line: int = 64


def fuse_sweeps(program: LoopProgram, sizes: SweepSizes = SweepSizes()) -> LoopProgram:
    """Returns the program with such nests fused, and the values that only they use reduced to a few rows."""
    work = _Work(program, sizes)
    begin = work.part(program.begin)
    steps = tuple(Step(s.first, s.count, work.part(s.body)) for s in program.steps)
    end = work.part(program.end)
    return replace(program, buffers=work.buffers, begin=begin, steps=steps, end=end)


class _Work:
    """The buffers as they become, and how often each is touched in the whole program."""

    def __init__(self, program: LoopProgram, sizes: SweepSizes) -> None:
        self.sizes = sizes
        self.buffers = dict(program.buffers)
        parts = program.parts
        self.touched: dict[str, int] = {}
        for access in accesses(s for part in parts for s in part):
            self.touched[access.buffer] = self.touched.get(access.buffer, 0) + 1
        loops = [s for part in parts for s in build.statements(part) if isinstance(s, For)]
        self.names = {*self.buffers, *(s.var for s in loops)}

    def fresh(self, name: str) -> str:
        """A name that nothing has."""
        found = next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(self.names) + 2))) if n not in self.names)
        self.names.add(found)
        return found

    def part(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        """Statements that follow each other, with sweeps in them, and in the loops over nests among them."""
        for place in range(len(body)):
            sweep = self.sweep(body, place)
            if sweep is not None:
                before, swept, after = sweep
                return (*body[:place], *before, *swept, *self.part(after))
        return tuple(self.repeated(s) for s in body)

    def repeated(self, s: Stmt) -> Stmt:
        """A loop over nests, such as the steps of an inner solver."""
        nests = isinstance(s, For) and all(isinstance(b, Nest) for b in s.body)
        return replace(s, body=self.part(s.body)) if isinstance(s, For) and nests else s

    def sweep(self, body: tuple[Stmt, ...], place: int) -> tuple[tuple[Stmt, ...], ...] | None:
        """The largest gain from the nest at `place` on: what runs before the sweep, the sweep, and what behind it."""
        first = body[place]
        if not isinstance(first, Nest) or not any(self._large(name) for name in writes((first,))):
            return None
        for member in row_members(first, place):
            group = self._group(member, body)
            tiles = self._tiles(group, body)
            rows = self._rows(group, tiles)
            if rows:
                return self._fused(group, body, tiles, rows)
        return None

    def _large(self, name: str) -> bool:
        buffer = self.buffers[name]
        return buffer.space == "scratch" and buffer.nbytes >= self.sizes.value

    def _group(self, first: Member, body: tuple[Stmt, ...]) -> list[Member]:
        """The nest and those behind it that may run in the same sweep."""
        group = [first]
        rows = _extent(first)
        for place in range(first.place + 1, len(body)):
            nest = body[place]
            swept = {n for m in group for n in writes(m.inside) - m.sums.keys() if m.axes(n)}
            if not isinstance(nest, Nest) or not reads((nest,)) & swept:
                continue
            between = _between(group, body, place)
            for member in self._members(nest, place, swept, rows):
                if _may_join(member, group, between):
                    group.append(member)
                    break
        return group

    def _members(self, nest: Nest, place: int, swept: set[str], rows: int) -> Iterator[Member]:
        yield from (m for m in row_members(nest, place) if _extent(m) == rows)
        member = sum_member(nest, place, swept, rows, self.fresh)
        if member is not None:
            yield member

    def _tiles(self, group: Sequence[Member], body: Sequence[Stmt]) -> dict[str, int]:
        """The scratch buffers that nothing but the sweep touches, each with the axis of its rows."""
        inside = [a.buffer for m in group for a in accesses(m.inside)]
        result: dict[str, int] = {}
        for name in sorted(writes(group[0].inside).union(*(writes(m.inside) for m in group))):
            if any(name in m.sums for m in group) or self.buffers[name].space != "scratch":
                continue
            axes = [a for m in group if (a := m.axes(name)) is not None]
            common = set.intersection(*axes)
            if common and inside.count(name) == self.touched[name]:
                result[name] = min(common)
        return result

    def _rows(self, group: Sequence[Member], tiles: dict[str, int]) -> int:
        """How many rows at a time; 0 where the sweep does not pay."""
        total = _extent(group[0])
        spared = sum(self.buffers[name].nbytes for name in tiles)
        sums = sum(b.nbytes for m in group for b in m.sums.values())
        large = any(self._large(name) for name in tiles)
        longest = max((_run(self.buffers[name], axis) for name, axis in tiles.items()), default=0)
        within = self.sizes.tile * total // spared if spared else 0
        if within < self.sizes.fewest and spared < self.sizes.large:
            return 0
        if not large or 4 * sums > spared:
            return 0
        if longest < self.sizes.row:
            fit = min(within, self.sizes.short // longest, total // 2) if longest >= _SHORTEST else 0
            return 1 << fit.bit_length() >> 1  # whole vectors along the rows
        fit = min(max(within, self.sizes.fewest), self.sizes.rows, total // 2)
        if fit < 1:
            return 0
        even = [r for r in range(1, fit + 1) if total % r == 0 and 2 * r > fit]
        return max(even, default=fit)

    def _fused(
        self, group: Sequence[Member], body: tuple[Stmt, ...], tiles: dict[str, int], rows: int
    ) -> tuple[tuple[Stmt, ...], ...]:
        for name, axis in tiles.items():
            shape = self.buffers[name].shape
            tile = replace(self.buffers[name], shape=(*shape[:axis], rows, *shape[axis + 1 :]))
            self.buffers[name] = tile if axis == len(shape) - 1 else in_whole_lines(tile, self.sizes.line)
        for member in group:
            self.buffers.update({n: in_whole_lines(b, self.sizes.line) for n, b in member.sums.items()})
        total = _extent(group[0])
        block = Var(self.fresh(f"{group[0].row}_block"))
        base = build.mul(block, build.index(rows))
        before = tuple(Nest(m.origins, m.start) for m in group if m.start)
        swept: list[Stmt] = [For(block.name, total // rows, tuple(_tile(m, tiles, base, rows) for m in group))]
        if total % rows:
            done = build.index(total // rows * rows)
            swept += [_tile(m, tiles, done, total % rows) for m in group]
        left = {m.place: Nest(m.origins, m.finish) if m.finish else None for m in group}
        after = [left.get(i, s) for i, s in enumerate(body) if i > group[0].place]
        return before, tuple(swept), tuple(s for s in after if s is not None)


def in_whole_lines(buffer: Buffer, line: int) -> Buffer:
    """The buffer with its last axis so long that what stands behind it starts at a multiple of `line` bytes."""
    *outer, last = buffer.shape
    size = buffer.nbytes // buffer.size
    if last * size < line or prod(outer) == 1:
        return buffer
    step = max(1, line // size)
    return replace(buffer, shape=(*outer, -(-last // step) * step))


def _run(buffer: Buffer, axis: int) -> int:
    """How many bytes of one row along the axis lie one behind the other."""
    return buffer.nbytes // prod(buffer.shape[: axis + 1])


def _extent(member: Member) -> int:
    """The number of rows in all."""
    found = [s.extent for s in build.statements(member.inside) if isinstance(s, For) and s.var == member.row]
    assert len(found) == 1 and isinstance(found[0], int)
    return found[0]


def _between(group: Sequence[Member], body: Sequence[Stmt], place: int) -> list[Stmt]:
    """What stays behind the sweep although it stands before the nest at `place`."""
    members = {m.place: m for m in group}
    found: list[Stmt] = []
    for i in range(group[0].place, place):
        found.extend(members[i].finish if i in members else (body[i],))
    return found


def _may_join(member: Member, group: Sequence[Member], between: Sequence[Stmt]) -> bool:
    """Whether the nest's part in the sweep may run that much earlier, row by row with those of the group."""
    moved = (*member.start, *member.inside)
    own = member.sums.keys()
    if reads(moved) & writes(between) or (writes(moved) - own) & (reads(between) | writes(between)):
        return False
    if any(reads(member.start) & writes(other.inside) for other in group):
        return False
    written, touched = writes(member.inside) - own, (reads(member.inside) | writes(member.inside)) - own
    for other in group:
        theirs = writes(other.inside)
        for name in (theirs & touched) | (written & reads(other.inside)):
            if not (member.axes(name) or set()) & (other.axes(name) or set()):
                return False
    return True


def _tile(member: Member, tiles: dict[str, int], base: Expr, rows: int) -> Nest:
    """The member's rows `base .. base + rows - 1`; of the buffers in `tiles` only so many rows exist."""
    row = Var(member.row)

    def moved(name: str, indices: tuple[Expr, ...]) -> tuple[Expr, ...]:
        axis = tiles.get(name)
        return tuple(i if p == axis else build.map_expr(i, change) for p, i in enumerate(indices))

    def change(e: Expr) -> Expr | None:
        if isinstance(e, Load):
            return Load(e.buffer, moved(e.buffer, e.indices), e.dtype)
        return build.add(base, row) if e == row else None

    def visit(s: Stmt) -> Stmt:
        if isinstance(s, For):
            extent = rows if s.var == row.name else build.map_extent(s.extent, change)
            return replace(s, extent=extent, body=tuple(map(visit, s.body)))
        if isinstance(s, Nest):
            return replace(s, body=tuple(map(visit, s.body)))
        if isinstance(s, Store):
            return Store(s.buffer, moved(s.buffer, s.indices), build.map_expr(s.value, change))
        return build.map_stmt(s, change)

    return Nest(member.origins, tuple(map(visit, member.inside)))
