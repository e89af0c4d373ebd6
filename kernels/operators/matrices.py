"""What the operators of linear algebra have in common: shapes, loops over parts of a matrix, triangular systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Const, Expr, For, Let, Load, Local, Store, Var
from unfoldc.kernels.operators.table import FLOATS, Index, Lowering
from unfoldc.kernels.program import TensorType

Entry = Callable[[Expr, Expr], Expr]


def order(t: TensorType) -> int:
    """The number of rows and columns of square matrices; raises ValueError for anything else."""
    if len(t.shape) < 2 or t.shape[-1] != t.shape[-2] or not t.shape[-1]:
        raise ValueError(f"square matrices are needed, not shape {list(t.shape)}")
    if t.dtype not in FLOATS:
        raise ValueError(f"a matrix of {t.dtype}, where {' or '.join(FLOATS)} is needed")
    return t.shape[-1]


def solution(n: int, batch: tuple[int, ...], dtype: str, b: TensorType) -> TensorType:
    """The type of X in A X = B, for matrices A of order n; leading axes broadcast."""
    if len(b.shape) < 2 or b.shape[-2] != n or not b.shape[-1] or b.dtype != dtype:
        raise ValueError(f"right-hand sides of {b.dtype}{list(b.shape)} for a matrix of {n} rows of {dtype}")
    return TensorType(dtype, (*np.broadcast_shapes(batch, b.shape[:-2]), *b.shape[-2:]))


@dataclass(frozen=True)
class Matrix:
    """One matrix of a buffer: `at` is its place along the leading axes."""

    lowering: Lowering
    buffer: str
    at: Index
    dtype: str

    def __call__(self, row: Expr, column: Expr) -> Expr:
        """An entry."""
        return Load(self.buffer, (*self.at, row, column), self.dtype)

    def store(self, row: Expr, column: Expr, value: Expr) -> None:
        """Sets an entry."""
        self.lowering.emit(Store(self.buffer, (*self.at, row, column), value))

    def swap(self, first: tuple[Expr, Expr], second: tuple[Expr, Expr]) -> None:
        """Exchanges two entries."""
        kept = scalar(self.lowering, "kept", self(*first))
        self.store(*first, self(*second))
        self.store(*second, kept)


def scalar(lowering: Lowering, prefix: str, value: Expr, mutable: bool = False) -> Local:
    """A new named scalar."""
    name = lowering.fresh(prefix)
    lowering.emit(Let(name, value, mutable))
    return Local(name, value.dtype)


def loop(
    lowering: Lowering, extent: Expr | int, body: Callable[[Expr], None], var: str = "", kind: str = "serial"
) -> None:
    """Emits a loop around what `body` emits; none for a single run, nothing for no run."""
    length = int(extent.value) if isinstance(extent, Const) else extent
    if isinstance(length, int) and length <= 1:
        if length == 1:
            body(build.ZERO)
        return
    name = var or lowering.fresh("i")
    lowering.emit(For(name, length, lowering.nested(lambda: body(Var(name))), kind))


def less_products(
    lowering: Lowering, start: Expr, count: Expr, a: Callable[[Expr], Expr], b: Callable[[Expr], Expr]
) -> Local:
    """`start - sum over k < count of a(k) b(k)`."""
    total = scalar(lowering, "acc", start, mutable=True)

    def step(k: Expr) -> None:
        lowering.emit(Assign(total.name, build.sub(total, build.mul(a(k), b(k)))))

    loop(lowering, count, step)
    return total


def below(n: int, i: Expr) -> Expr:
    """How many rows follow row i."""
    return build.sub(build.index(n - 1), i)


def after(i: Expr, k: Expr) -> Expr:
    """Row k of those that follow row i."""
    return build.add(build.add(i, k), build.index(1))


def inside(index: Expr, n: int) -> Expr:
    """An index that comes from data, kept inside its axis."""
    return build.binary("min", build.binary("max", index, build.ZERO), build.index(n - 1))


def substitute(
    x: Matrix, shape: tuple[int, int], column: str, factor: Entry, start: Entry, backwards: bool, unit: bool = False
) -> None:
    """Solves a triangular system: X[i] = (start[i] - sum over the rows k before of factor[i, k] X[k]) / factor[i, i].

    From the last row to the first where `backwards`; the diagonal is one where `unit`. The loop over the right-hand
    sides, with the variable `column`, is the inner one of the two: its sums are independent of each other, and each row
    divides once.
    """
    lowering, (n, m) = x.lowering, shape

    def row(i: Expr) -> None:
        here = below(n, i) if backwards else i
        scale = None
        if not unit:
            one = build.literal(1, x.dtype)
            scale = scalar(lowering, "scale", build.binary("div", one, factor(here, here)))

        def there(k: Expr) -> Expr:
            return build.add(build.sub(build.index(n), i), k) if backwards else k

        def side(c: Expr) -> None:
            total = less_products(
                lowering, start(here, c), i, lambda k: factor(here, there(k)), lambda k: x(there(k), c)
            )
            x.store(here, c, total if scale is None else build.mul(total, scale))

        loop(lowering, m, side, column)

    loop(lowering, n, row)
