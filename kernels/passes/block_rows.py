"""Unroll and jam: several neighbouring results share one reduction loop, each in a named scalar of its own.

    for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = acc
becomes, for blocks of R rows,
    for i: acc_0 = acc_1 = ... = 0; for j: acc_0 += w[R i, j] x[j]; acc_1 += w[R i + 1, j] x[j]; ...
so that x[j] is loaded once for R products and R additions are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, bounds, linear, longest, loop_range
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Nest, Stmt, Store, Var


def block_rows(body: Sequence[Stmt], rows: int, around: Ranges | None = None, of_one_sum: int = 0) -> tuple[Stmt, ...]:
    """Applies the transformation to every innermost result loop around a reduction; `around` are the loops outside.

    `of_one_sum`: how many rows of one sum each are taken at once where that leaves no rest.
    """
    ranges: Ranges = around or {}
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest):
            result.append(Nest(s.origins, block_rows(s.body, rows, ranges, of_one_sum)))
        elif isinstance(s, For) and s.kind == "lanes":
            result.append(s)  # has its rows already
        elif isinstance(s, For) and _fills_a_block(s, rows, ranges) and rows_are_independent(s, ranges):
            result.extend(block(s, of_one_sum if _is_one_sum(s, of_one_sum) else rows))
        elif isinstance(s, For):
            inner = block_rows(s.body, rows, {**ranges, s.var: loop_range(s)}, of_one_sum)
            result.append(For(s.var, s.extent, inner, s.kind))
        else:
            result.append(s)
    return tuple(result)


def _fills_a_block(loop: For, rows: int, around: Ranges) -> bool:
    """Whether it is a result loop to be blocked; one in a triangle that is always shorter than a block is not."""
    enough = isinstance(loop.extent, int) or longest(loop.extent, around) >= rows
    return rows > 1 and enough and encloses_reduction(loop)


def _is_one_sum(loop: For, rows: int) -> bool:
    """Whether a result is one sum and there are a whole number of blocks of so many rows."""
    whole = rows > 1 and isinstance(loop.extent, int) and loop.extent % rows == 0
    return whole and sum(isinstance(s, Let) and s.mutable for s in loop.body) == 1


def encloses_reduction(loop: For) -> bool:
    """Whether the loop declares an accumulator and reduces into it in a loop directly inside."""
    accumulators = {s.name for s in loop.body if isinstance(s, Let) and s.mutable}
    reductions = [s for s in loop.body if isinstance(s, For)]
    assigned = [{a.name for a in build.statements(r.body) if isinstance(a, Assign)} for r in reductions]
    return bool(assigned) and all(names and names <= accumulators for names in assigned)


def rows_are_independent(loop: For, around: Ranges) -> bool:
    """Whether no run of the loop reads or overwrites what another run writes, and all have inner loops of one length.

    Each buffer is written at one place, which is another in each run, or at several that share an index of which this
    is true; what is read of it is the one place or one that no run of the loop writes.
    """
    body = build.statements(loop.body)
    inner = [s for s in body if isinstance(s, For)]
    if build.carries_scalars(loop) or any(isinstance(s, Nest) for s in body):
        return False
    if any(not isinstance(s.extent, int) and Var(loop.var) in build.walk(s.extent) for s in inner):
        return False
    written: dict[str, list[tuple[Expr, ...]]] = {}
    for s in body:
        if isinstance(s, Store) and s.indices not in written.setdefault(s.buffer, []):
            written[s.buffer].append(s.indices)
    variables = {Var(s.var) for s in inner}
    for places in written.values():
        shared = [i for i, *others in zip(*places, strict=True) if all(i == other for other in others)]
        if not any(_moves(i, loop.var, variables) for i in shared):
            return False
    reads = build.loads(loop.body)
    own = _Runs(loop, inner, around)
    return all(own.apart(e.indices, p) for e in reads if e.buffer in written for p in written[e.buffer])


def _moves(index: Expr, var: str, inner: Set[Expr]) -> bool:
    """Whether the index is another one for each value of the variable, whatever the loops inside do."""
    terms = linear(index).terms
    return bool(terms.pop(Var(var), 0)) and not any(x in inner or x == Var(var) for e in terms for x in build.walk(e))


class _Runs:
    """Two runs of a loop: in the other one, its variables and those of the loops inside have other values."""

    def __init__(self, loop: For, inner: Sequence[For], around: Ranges) -> None:
        self.names = {s.var: f"{s.var}'" for s in (loop, *inner)}
        ranges = dict(around)
        for s in (loop, *inner):
            low, high = loop_range(s)
            ranges[s.var] = low, high
            ranges[self.names[s.var]] = low, high if isinstance(high, int) else self.other(high)
        self.ranges = ranges

    def other(self, e: Expr) -> Expr:
        """The expression in the other run."""
        return build.map_expr(
            e, lambda x: Var(self.names[x.name]) if isinstance(x, Var) and x.name in self.names else None
        )

    def apart(self, read: tuple[Expr, ...], written: tuple[Expr, ...]) -> bool:
        """Whether a place that is read is the one written in the same run, or lies beside all that any run writes.

        Beside: along some axis before all of them or behind all of them.
        """
        if read == written:
            return True
        pairs = [(a, self.other(b)) for a, b in zip(read, written, strict=True)]
        return any(bounds(build.sub(*d), self.ranges)[0] > 0 for a, b in pairs for d in ((a, b), (b, a)))


def block(loop: For, rows: int) -> list[Stmt]:
    """The loop with so many of its runs at a time, and the rest."""
    if not isinstance(loop.extent, int):
        return _block_of_triangle(loop, loop.extent, rows)
    blocks, rest = divmod(loop.extent, rows)
    result: list[Stmt] = []
    if blocks > 1:
        start = build.mul(Var(loop.var), build.index(rows))
        result.append(For(loop.var, blocks, jam(loop, [build.add(start, build.index(r)) for r in range(rows)])))
    elif blocks == 1:
        result.append(Nest((), jam(loop, [build.index(r) for r in range(rows)], "b")))
    if rest:
        result.append(Nest((), jam(loop, [build.index(blocks * rows + r) for r in range(rest)], "r")))
    return result


def _block_of_triangle(loop: For, extent: Expr, rows: int) -> list[Stmt]:
    """Blocks of rows as far as they go, and the rest row by row."""
    rest = build.binary("mod", extent, build.index(rows))
    start = build.mul(Var(loop.var), build.index(rows))
    jammed = jam(loop, [build.add(start, build.index(r)) for r in range(rows)])
    single = jam(loop, [build.add(build.sub(extent, rest), Var(loop.var))], "r")
    blocks = build.binary("floordiv", extent, build.index(rows))
    return [For(loop.var, blocks, jammed), For(loop.var, rest, single)]


def jam(loop: For, places: Sequence[Expr], mark: str = "") -> tuple[Stmt, ...]:
    """The runs of a loop at these places side by side, its scalars with a mark and the run's number in their names."""
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

    def together(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, For):
                result.append(For(s.var, s.extent, together(s.body), s.kind))
            else:
                result.extend(copy(s, r) for r in range(len(places)))
        return tuple(result)

    return together(loop.body)
