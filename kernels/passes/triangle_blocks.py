"""The product of a symmetric matrix with a vector, from the triangle above its diagonal, R rows at a time.

An element a[i, j] right of the diagonal serves y[i] += a[i, j] x[j] and y[j] += a[i, j] x[i] while it is in a register:

    y = 0
    for blocks of rows I:
        s = y[I] + (triangle of A[I, I]) x[I]
        for j behind I: s += A[I, j] x[j]; y[j] += A[I, j]' x[I]
        y[I] = s
Sums and numbers of x of a block of rows stay in registers: two products take three loads and stores less a factor R,
and one load. y[I] is whole when its block is done, so that what is made of it can be made there, even where that is
written over x[I], which is read no more.

What is stored of a block is its triangle, then the columns behind it, R numbers each: the last blocks first, since then
the place of the block with m blocks behind it, m (R m / 2 + 1 + rest) columns, is a product of numbers that are not
negative. Rows that fill no block come last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var

_TOGETHER = 4  # columns in a run of the loop over them; with 2, counting takes a twelfth more


@dataclass(frozen=True)
class TriangleBlocks:
    """How the triangle of a matrix of so many rows is cut into blocks of `rows` (an even number) rows."""

    order: int
    rows: int

    @property
    def blocks(self) -> int:
        """Whole blocks of rows."""
        return self.order // self.rows

    @property
    def rest(self) -> int:
        """Rows that are left."""
        return self.order % self.rows

    @property
    def own(self) -> int:
        """Columns that the triangle of a block takes."""
        return self.rows // 2 + 1

    @property
    def columns(self) -> int:
        """Columns of R numbers that are stored of the blocks."""
        return self.before(self.blocks)

    @property
    def stored(self) -> int:
        """Columns of R numbers that are stored, what is left included."""
        return self.columns - (-self.rest * (self.rest + 1) // 2 // self.rows)

    def before(self, behind: int) -> int:
        """Columns that are stored before the block with so many blocks behind it."""
        return behind * (self.rows // 2 * behind + 1 + self.rest)

    def packed(self, matrix: np.ndarray) -> np.ndarray:
        """What is stored of matrices (.., order, order), as (.., stored, rows)."""
        lead, rows = matrix.shape[:-2], self.rows
        result = np.zeros((*lead, self.stored * rows), matrix.dtype)
        for block in range(self.blocks + (self.rest > 0)):
            at, height = block * rows, min(rows, self.order - block * rows)
            behind = self.blocks - 1 - block
            start = self.before(behind) * rows if behind >= 0 else self.columns * rows
            upper = np.triu_indices(height)
            result[..., start : start + len(upper[0])] = matrix[..., at + upper[0], at + upper[1]]
            columns = matrix[..., at : at + height, at + height :].swapaxes(-1, -2).reshape(*lead, -1)
            start += self.own * rows
            result[..., start : start + columns.shape[-1]] = columns
        return result.reshape(*lead, self.stored, rows)


@dataclass(frozen=True)
class BlockOfRows:
    """Makes the products of one block of rows: `block` of the whole ones, or (None) what is left.

    sums: the names of its rows' sums; matrix: of `packed`, chosen by the indices `lead`; x: a number of x, at the place
    that `index` stands for; y: the sums of all rows so far.
    """

    form: TriangleBlocks
    block: Var | None
    sums: tuple[str, ...]
    matrix: str
    lead: tuple[Expr, ...]
    x: Load
    index: Var
    y: str

    @property
    def dtype(self) -> str:
        """The type of all numbers."""
        return self.x.dtype

    def products(self) -> list[Stmt]:
        """What adds all products of the block to its sums and to y."""
        own = [Let(self.own(r).name, self.number(self.row(r))) for r in range(len(self.sums))]
        result: list[Stmt] = [*own, Nest((), tuple(self.triangle()))]
        if self.block is None:
            return result
        rows, rest, j = self.form.rows, self.form.rest, Var(f"{self.y}_j")
        behind, width = self.behind(), _TOGETHER if self.form.rows % _TOGETHER == 0 else 2
        first = build.mul(j, build.index(width))
        body = [s for c in range(width) for s in self.column(build.add(first, build.index(c)), c)]
        result.append(For(j.name, build.mul(behind, build.index(rows // width)), tuple(body)))
        last = build.mul(behind, build.index(rows))
        for c in range(rest):
            result.append(Nest((), tuple(self.column(build.add(last, build.index(c)), c))))
        return result

    def triangle(self) -> list[Stmt]:
        """The products with the block on the diagonal, row by row."""
        result: list[Stmt] = []
        height, place = len(self.sums), 0
        start = self.start()
        for r in range(height):
            names = [Local(f"{self.y}_d{r}_{c - r}", self.dtype) for c in range(r, height)]
            for name in names:
                column = build.add(start, build.index(place // self.form.rows))
                result.append(Let(name.name, self.element(column, place % self.form.rows)))
                place += 1
            result.append(self.added(r, names[0], self.own(r)))
            for c in range(r + 1, height):
                result.append(self.added(r, names[c - r], self.own(c)))
                result.append(self.added(c, names[c - r], self.own(r)))
        return result

    def column(self, column: Expr, mark: int) -> list[Stmt]:
        """The products with one column behind the block, of which `column` is the number."""
        names = [Local(f"{self.y}_a{mark}_{r}", self.dtype) for r in range(len(self.sums))]
        there = build.add(build.add(self.start(), build.index(self.form.own)), column)
        place = build.add(self.row(len(self.sums)), column)
        x, y = (Local(f"{self.y}_{name}{mark}", self.dtype) for name in ("x", "y"))
        result: list[Stmt] = [Let(name.name, self.element(there, r)) for r, name in enumerate(names)]
        result += [Let(x.name, self.number(place)), Let(y.name, Load(self.y, (place,), self.dtype), True)]
        for r, name in enumerate(names):
            result.append(self.added(r, name, x))
            result.append(Assign(y.name, build.add(y, build.mul(name, self.own(r)))))
        return [*result, Store(self.y, (place,), y)]

    def added(self, row: int, element: Expr, x: Expr) -> Stmt:
        """Adds a product to the sum of a row."""
        name = self.sums[row]
        return Assign(name, build.add(Local(name, self.dtype), build.mul(element, x)))

    def behind(self) -> Expr:
        """How many whole blocks are behind this one."""
        assert self.block is not None
        return build.sub(build.index(self.form.blocks - 1), self.block)

    def start(self) -> Expr:
        """Where the columns of the block start."""
        if self.block is None:
            return build.index(self.form.columns)
        slope = build.mul(self.behind(), build.index(self.form.rows // 2))
        return build.mul(self.behind(), build.add(slope, build.index(1 + self.form.rest)))

    def row(self, row: int) -> Expr:
        """The number of a row of the block, or of one behind it."""
        first = build.index(self.form.blocks) if self.block is None else self.block
        return build.add(build.mul(first, build.index(self.form.rows)), build.index(row))

    def own(self, row: int) -> Local:
        """The number of x of a row."""
        return Local(f"{self.y}_own_{row}", self.dtype)

    def number(self, place: Expr) -> Expr:
        """A number of x."""
        return build.map_expr(self.x, lambda e: place if e == self.index else None)

    def element(self, column: Expr, row: int) -> Expr:
        """A number that is stored."""
        return Load(self.matrix, (*self.lead, column, build.index(row)), self.dtype)
