"""Sums over what lies side by side in both factors: several results along two loops share one reduction loop.

    for i: for c: acc = 0; for j: acc += t[i, j] v[c, j]; x[i, c] = acc
becomes, for blocks of R by C results,
    for i by R: for c by C: acc_00 = acc_01 = .. = 0
        for j: acc_00 += t[R i, j] v[C c, j]; acc_01 += t[R i, j] v[C c + 1, j]; ...
so that R + C loads serve R C products. The terms of such a sum are the elements of vectors, which a compiler finds by
itself as long as no other loop is in the way; `vector_results` does the opposite where results lie side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, loop_range
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, LoopProgram, Nest, Step, Stmt, Var
from unfoldc.kernels.passes.block_rows import rows_are_independent
from unfoldc.kernels.passes.jam_results import jam

_MOST_COLUMNS = 6


def block_dots(program: LoopProgram, sums: int, shortest: int) -> LoopProgram:
    """Applies it to sums of at least `shortest` terms, with at most `sums` of them side by side.

    Constants are left to `vector_results`, which can lay them out as it likes.
    """
    work = _Work(program.buffers, sums, shortest)
    begin, end = work.body(program.begin, {}), work.body(program.end, {})
    steps = tuple(Step(s.first, s.count, work.body(s.body, {})) for s in program.steps)
    return replace(program, begin=begin, steps=steps, end=end)


@dataclass(frozen=True)
class _Work:
    buffers: Mapping[str, Buffer]
    sums: int
    shortest: int

    def body(self, body: Sequence[Stmt], ranges: Ranges) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, Nest):
                result.append(replace(s, body=self.body(s.body, ranges)))
            elif isinstance(s, For) and self.fits(s, ranges):
                result.extend(_blocked(s, self.sums))
            elif isinstance(s, For):
                result.append(replace(s, body=self.body(s.body, {**ranges, s.var: loop_range(s)})))
            else:
                result.append(s)
        return tuple(result)

    def fits(self, rows: For, ranges: Ranges) -> bool:
        """Whether it is the outer one of two result loops around one such sum, all of fixed lengths."""
        columns = rows.body[0] if len(rows.body) == 1 else None
        if not isinstance(columns, For) or not isinstance(rows.extent, int) or not isinstance(columns.extent, int):
            return False
        over = [s for s in columns.body if isinstance(s, For)]
        if len(over) != 1 or not isinstance(over[0].extent, int) or over[0].extent < self.shortest:
            return False
        if not self.sums_side_by_side(columns, over[0]):
            return False
        inside = {**ranges, rows.var: loop_range(rows)}
        return rows_are_independent(rows, ranges) and rows_are_independent(columns, inside)

    def sums_side_by_side(self, columns: For, over: For) -> bool:
        """Whether the loop only sums, and all that it reads along its variable are neighbours in memory."""
        totals = {s.name for s in columns.body if isinstance(s, Let) and s.mutable}
        changed = {s.name for s in over.body if isinstance(s, Assign)}
        if not changed or not changed <= totals or any(not isinstance(s, Let | Assign) for s in over.body):
            return False
        loads = build.loads(over.body)
        along = [e for e in loads if any(Var(over.var) in build.walk(i) for i in e.indices)]
        return bool(along) and all(self.runs_along(e, over.var) for e in along)

    def runs_along(self, e: Load, var: str) -> bool:
        """Whether the variable counts along the last axis, and nowhere else."""
        buffer = self.buffers[e.buffer]
        long = [i for i, n in zip(e.indices, buffer.shape, strict=True) if n > 1]
        last = bool(long) and long[-1] == Var(var) and not any(Var(var) in build.walk(i) for i in long[:-1])
        return last and buffer.space != "constant"


def _blocked(rows: For, sums: int) -> list[Stmt]:
    columns = rows.body[0]
    assert isinstance(columns, For) and isinstance(columns.extent, int) and isinstance(rows.extent, int)
    across = _blocks(columns.extent, min(_MOST_COLUMNS, sums))
    result: list[Stmt] = []
    for first, count, size in _blocks(rows.extent, max(1, sums // max(n for _, _, n in across))):
        inner: list[Stmt] = []
        for start, repeats, width in across:
            places = [
                {rows.var: row, columns.var: column}
                for row in _places(rows.var, first, count, size)
                for column in _places(columns.var, start, repeats, width)
            ]
            block: Stmt = Nest((), jam(columns.body, places, 0))
            inner.append(For(f"{columns.var}_b", repeats, (block,)) if repeats > 1 else block)
        result.extend([For(f"{rows.var}_b", count, tuple(inner))] if count > 1 else inner)
    return result


def _blocks(extent: int, most: int) -> list[tuple[int, int, int]]:
    """Start, number and size of blocks of about equal size."""
    size = -(-extent // -(-extent // most))
    whole, rest = divmod(extent, size)
    return [(0, whole, size), *([(whole * size, 1, rest)] if rest else [])]


def _places(var: str, first: int, count: int, size: int) -> list[Expr]:
    start: Expr = build.index(first)
    if count > 1:
        start = build.add(build.mul(Var(f"{var}_b"), build.index(size)), start)
    return [build.add(start, build.index(n)) for n in range(size)]
