"""The product of a symmetric matrix with a vector, from the blocks on one side of the diagonal.

A block A[I, J] of L by L numbers serves y[I] += A[I, J] x[J] and y[J] += A[I, J]ᵀ x[I] while it is in registers:

    for I: for c < L at once:
        s_0 .. s_L-1 = A[I, I][0 .. L-1, c] x[I, c]
        for J: for r < L: s_r += A[I, J][r, c] x[J, c]; y[J, c] += A[I, J][r, c] x[I, r]
        t[r, c] = s_r
    for r < L at once: y[I, r] += t[r, 0] + .. + t[r, L-1]

J runs over the B / 2 blocks that follow I, with the first one after the last: so each pair is met once, and all rows of
blocks have the same number of blocks (for an even B the first half of them has one more). To that end x and y are
longer than the matrix, and what y has behind its end is added to its start. The order is rounded up to whole blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var


@dataclass(frozen=True)
class Rows:
    """`count` rows of blocks from row `first` on, each with the diagonal block and the `followers` behind it."""

    first: int
    count: int
    followers: int


@dataclass(frozen=True)
class HalfBlocks:
    """How a matrix of so many rows and columns is cut into blocks of `lanes` by `lanes`.

    `together` blocks beside each other share a number of x; their sums and those of a row of blocks are in registers.
    """

    order: int
    lanes: int
    together: int

    @property
    def blocks(self) -> int:
        """Number of blocks along an axis."""
        return -(-self.order // self.lanes)

    @property
    def length(self) -> int:
        """Numbers in x and y, those behind the end of the matrix included."""
        return (self.blocks + (self.blocks - 1) // 2) * self.lanes

    @property
    def stored(self) -> int:
        """Numbers of the matrix that are stored."""
        return self.blocks * (self.blocks + 1) // 2 * self.lanes**2

    def rows(self) -> list[Rows]:
        """The rows of blocks, by their number of blocks."""
        half, odd = divmod(self.blocks, 2)
        return [Rows(0, self.blocks, half)] if odd else [Rows(0, half, half), Rows(half, half, half - 1)]

    def packed(self, matrix: np.ndarray) -> list[np.ndarray]:
        """For each of `rows` the blocks of matrices (.., order, order), as (.., count, 1 + followers, lanes, lanes)."""
        free = self.blocks * self.lanes - self.order
        whole = np.pad(matrix, [(0, 0)] * (matrix.ndim - 2) + [(0, free)] * 2)
        lead = matrix.shape[:-2]
        cut = whole.reshape(*lead, self.blocks, self.lanes, self.blocks, self.lanes).swapaxes(-3, -2)
        result = []
        for part in self.rows():
            row = part.first + np.arange(part.count)[:, None]
            column = (row + np.arange(1 + part.followers)) % self.blocks
            result.append(np.ascontiguousarray(cut[..., row, column, :, :]))
        return result

    def scratch(self, name: str, dtype: str) -> tuple[Buffer, Buffer, Buffer]:
        """x, y and the square of sums."""
        return (
            Buffer(f"{name}_x", dtype, (self.length,), "scratch"),
            Buffer(f"{name}_y", dtype, (self.length,), "scratch"),
            Buffer(f"{name}_sums", dtype, (self.lanes, self.lanes), "scratch"),
        )

    def product(self, matrices: Sequence[str], lead: tuple[Expr, ...], scratch: Sequence[Buffer]) -> list[Stmt]:
        """Sets y to the product, given the first `order` numbers of x; `matrices` hold what `packed` gives."""
        x, y, _ = scratch
        whole = self.blocks * self.lanes
        behind = self.length - whole
        index = Var(f"{x.name}_i")
        zero = build.literal(0, x.dtype)
        after = (build.add(index, build.index(whole)),)
        result = [_loop(index, self.length, Store(y.name, (index,), zero))]
        if whole > self.order:
            place = build.add(index, build.index(self.order))
            result.append(_loop(index, whole - self.order, Store(x.name, (place,), zero)))
        result.append(_loop(index, behind, Store(x.name, after, Load(x.name, (index,), x.dtype))))
        for part, name in zip(self.rows(), matrices, strict=True):
            result.append(_Row(self, part, name, lead, scratch).loop())
        total = build.add(Load(y.name, (index,), y.dtype), Load(y.name, after, y.dtype))
        result.append(_loop(index, behind, Store(y.name, (index,), total)))
        return [Nest((), (s,)) for s in result]


def _loop(index: Var, extent: int, body: Stmt) -> Stmt:
    return For(index.name, extent, (body,))


class _Row:
    """Makes the loop over the rows of blocks of one length."""

    def __init__(
        self, form: HalfBlocks, part: Rows, matrix: str, lead: tuple[Expr, ...], scratch: Sequence[Buffer]
    ) -> None:
        self.form, self.part, self.matrix, self.lead = form, part, matrix, lead
        self.x, self.y, self.sums = (b.name for b in scratch)
        self.dtype = scratch[0].dtype
        self.row, self.lane, self.group = (Var(f"{self.x}_{mark}") for mark in ("b", "l", "g"))

    def loop(self) -> Stmt:
        """Row by row: the diagonal block, the blocks behind it, and what its own sums come to."""
        form, lanes = self.form, self.form.lanes
        own = Local("own", self.dtype)
        body: list[Stmt] = [Let("own", self.load(self.x, self.at(build.ZERO)))]
        body += [Let(f"s{r}", build.mul(self.element(build.ZERO, r), own), True) for r in range(lanes)]
        groups, left = divmod(self.part.followers, form.together)
        if groups > 1:
            first = build.add(build.mul(self.group, build.index(form.together)), build.index(1))
            body.append(For(self.group.name, groups, tuple(self.blocks(first, form.together, ""))))
        elif groups:
            body += self.blocks(build.index(1), form.together, "")
        if left:
            body += self.blocks(build.index(1 + groups * form.together), left, "r")
        body += [Store(self.sums, (build.index(r), self.lane), self.sum(r)) for r in range(lanes)]
        return For(self.row.name, self.part.count, (For(self.lane.name, lanes, tuple(body), "lanes"), self.totals()))

    def blocks(self, first: Expr, count: int, mark: str) -> list[Stmt]:
        """The products with `count` blocks beside each other, of which the first is so far behind the diagonal."""
        places = [build.add(first, build.index(n)) for n in range(count)]
        result: list[Stmt] = []
        for n, place in enumerate(places):
            result.append(Let(f"x{mark}{n}", self.load(self.x, self.at(place))))
            result.append(Let(f"y{mark}{n}", self.load(self.y, self.at(place)), True))
        for r in range(self.form.lanes):
            number = f"n{mark}{r}"
            result.append(Let(number, self.load(self.x, self.at(build.ZERO, build.index(r)))))
            for n, place in enumerate(places):
                element = Local(f"a{mark}{r}_{n}", self.dtype)
                result.append(Let(element.name, self.element(place, r)))
                own = build.mul(element, Local(f"x{mark}{n}", self.dtype))
                result.append(Assign(f"s{r}", build.add(self.sum(r), own)))
                other = Local(f"y{mark}{n}", self.dtype)
                product = build.mul(element, Local(number, self.dtype))
                result.append(Assign(other.name, build.add(other, product)))
        for n, place in enumerate(places):
            result.append(Store(self.y, (self.at(place),), Local(f"y{mark}{n}", self.dtype)))
        return result

    def totals(self) -> Stmt:
        """Adds each row of the square of sums to its result."""
        total, column = Local("total", self.dtype), Var(f"{self.x}_c")
        read = Load(self.sums, (self.lane, column), self.dtype)
        body: tuple[Stmt, ...] = (
            Let("total", self.load(self.y, self.at(build.ZERO)), True),
            For(column.name, self.form.lanes, (Assign("total", build.add(total, read)),)),
            Store(self.y, (self.at(build.ZERO),), total),
        )
        return For(self.lane.name, self.form.lanes, body, "lanes")

    def at(self, block: Expr, within: Expr | None = None) -> Expr:
        """Where a number of x or y is: of the block so far behind the diagonal, by default the lane's own."""
        place = build.add(build.add(self.row, build.index(self.part.first)), block)
        return build.add(build.mul(place, build.index(self.form.lanes)), self.lane if within is None else within)

    def element(self, block: Expr, row: int) -> Expr:
        return Load(self.matrix, (*self.lead, self.row, block, build.index(row), self.lane), self.dtype)

    def load(self, name: str, at: Expr) -> Expr:
        return Load(name, (at,), self.dtype)

    def sum(self, row: int) -> Local:
        return Local(f"s{row}", self.dtype)
