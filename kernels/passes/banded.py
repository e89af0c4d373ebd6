"""Products with constant matrices of few diagonals compute those alone: finite differences, smoothing, short filters.

    T[i, j] = 0 unless low <= j - i < low + width:   y[i] = sum over d < width of D[d, i] x[i + low + d]

in width · results multiply-adds in place of results · length; D has one column where T has one number per diagonal. The
numbers stay what they are. x is zero beyond its ends. A NaN or Inf in x stays in the rows that its band reaches, where
0 · NaN = NaN would spread it to all; every element of x is in the band of some row, so that none is overlooked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.passes.constant_products import Product, along, constant_product, replaced
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.program import Node, Program

# A band pays up to this share of a row; shorter rows are left alone.
_WIDEST = 0.25
_SHORTEST = 8


@dataclass(frozen=True)
class Band:
    """Diagonals D (width, results), or (width, 1), of which the first is j - i = low."""

    low: int
    D: np.ndarray


def banded_products(program: Program) -> Program:
    """Replaces products with such matrices in the iterations."""
    rewriter = Rewriter(program)

    def change(part: Part, node: Node) -> tuple[Node, ...] | None:
        product = constant_product(program, part, node, stacked=False)
        found = None if product is None else band(product.T)
        return None if product is None or found is None else _apply(rewriter, part, node, product, found)

    return rewriter.rewritten(change, bodies_only=True)


def _apply(rewriter: Rewriter, part: Part, node: Node, product: Product, found: Band) -> tuple[Node, ...] | None:
    rows, width = len(product.T), len(found.D)

    def apply(maker: Maker, x: str) -> str:
        t = rewriter.types[x]
        axis = -2 if product.left and len(t.shape) > 1 else -1
        name = f"{node.outputs[0]} diagonals"
        if width == 1 and found.low == 0 and rows == t.shape[axis]:
            d = found.D[0] if found.D.size > 1 else found.D[0, 0]
            return maker.node("Mul", x, rewriter.constant(along(d, t, product.left) if d.ndim else np.array(d), name))
        place, length = len(t.shape) + axis, rows + width - 1
        if (found.low, length) != (0, t.shape[axis]):
            starts, sizes = [0] * len(t.shape), list(t.shape)
            starts[place], sizes[place] = found.low, length
            x = maker.node("Padded", x, maker.number(0, x), starts=starts, sizes=sizes)
        return maker.node("Band", x, rewriter.constant(found.D, name), axis=axis)

    return replaced(rewriter, part, node, product, apply)


def band(T: np.ndarray) -> Band | None:
    """The diagonals of a matrix, None if they are too many, or if a column is out of reach of all rows."""
    rows, columns = T.shape
    if min(rows, columns) < _SHORTEST or not np.isfinite(T).all():
        return None
    i, j = np.nonzero(T)
    if not i.size:
        return None
    low, high = int((j - i).min()), int((j - i).max())
    width = high - low + 1
    if width > _WIDEST * columns or low > 0 or rows - 1 + high < columns - 1:
        return None
    D = np.zeros((width, rows), T.dtype)
    D[j - i - low, i] = T[i, j]
    # Where the band leaves the matrix, x is zero: a diagonal may go on with the number that it has inside.
    place = np.arange(rows) + low + np.arange(width)[:, None]
    inside = (place >= 0) & (place < columns)
    first = np.array([d[here][0] for d, here in zip(D, inside, strict=True)], T.dtype)[:, None]
    return Band(low, first if (np.where(inside, D, first) == first).all() else D)
