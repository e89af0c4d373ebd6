"""Large Toeplitz matrices, T[i, j] = t[j - i], are read from the numbers of their diagonals: convolutions written as
matrices, autocorrelations, circulants.

The multiply-adds stay, but rows + columns - 1 numbers stand for rows · columns: they stay in the nearest cache, where a
large matrix would come from memory in each iteration. The numbers are those of the first row and column; the others
must agree with them to about 1e-6 (float32) of the matrix.
"""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.passes.constant_products import Product, constant_product, multiplied, replaced
from unfoldc.kernels.passes.low_rank import TOLERANCE
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.program import Node, Program

# Bytes of a matrix. One that stays in the second-level cache is read faster as it is: its rows start at aligned places.
_SMALLEST = 2**20


def toeplitz_products(program: Program) -> Program:
    """Replaces such matrices in the iterations."""
    rewriter = Rewriter(program)

    def change(part: Part, node: Node) -> tuple[Node, ...] | None:
        product = constant_product(program, part, node, stacked=False)
        if product is None or product.T.nbytes < _SMALLEST:
            return None
        t = diagonals(product.T)
        return None if t is None else _apply(rewriter, part, node, product, t)

    return rewriter.rewritten(change, bodies_only=True)


def _apply(rewriter: Rewriter, part: Part, node: Node, product: Product, t: np.ndarray) -> tuple[Node, ...] | None:
    def apply(maker: Maker, x: str) -> str:
        name = rewriter.constant(t, f"{node.outputs[0]} diagonals")
        return multiplied(maker, maker.node("Toeplitz", name, shape=product.T.shape), x, product.left)

    return replaced(rewriter, part, node, product, apply)


def diagonals(T: np.ndarray) -> np.ndarray | None:
    """The numbers of the diagonals from the lowest to the highest, None if T is no Toeplitz matrix."""
    tolerance = TOLERANCE.get(str(T.dtype))
    if tolerance is None or abs(T[1:, 1:] - T[:-1, :-1]).max(initial=0) > 8 * tolerance * abs(T).max():
        return None
    t: np.ndarray = np.concatenate([T[::-1, 0], T[0, 1:]])
    rows, columns = T.shape
    spread = t[rows - 1 - np.arange(rows)[:, None] + np.arange(columns)]
    error = np.linalg.norm((spread - T).astype(np.float64))
    size = np.linalg.norm(T.astype(np.float64)) / np.sqrt(min(T.shape))
    return t if error <= 4 * tolerance * size and np.isfinite(t).all() else None
