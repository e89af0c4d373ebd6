"""Cholesky and LU factorisation; a failed one shows as NaN or infinity, never as an exception.

Sums run along rows of what is finished (Crout's order), so that a step is products with contiguous rows and the rows of
a step are independent of each other. Source: Golub and Van Loan, Matrix Computations, 4th edition, 3.4 and 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr
from unfoldc.kernels.operators.matrices import Matrix, after, below, inside, less_products, loop, order, scalar
from unfoldc.kernels.operators.sequences import loops, only_as_a_whole
from unfoldc.kernels.operators.table import FLOATS, Arrays, Index, Lowering, Operator, array, given, register
from unfoldc.kernels.program import Node, TensorType

# -- Cholesky: A = L L^T --------------------------------------------------------------------------------------------


def _cholesky(_: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    a = array(v, 0)
    result = np.zeros_like(a)
    for j in range(a.shape[-1]):
        done = result[..., j:, :j]
        column = a[..., j:, j] - (done @ result[..., j, :j, None])[..., 0]
        root = np.sqrt(np.where(column[..., :1] > 0, column[..., :1], np.asarray(np.nan, a.dtype)))
        result[..., j:, j] = np.concatenate([root, column[..., 1:] * (1 / root)], -1)
    return (result,)


def _cholesky_infer(_: Mapping[str, Any], types: Sequence[TensorType | None], __: Arrays) -> tuple[TensorType, ...]:
    order(given(types, 0))
    return (given(types, 0),)


def _cholesky_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    """Products with their differences, scalings; comparisons, roots and reciprocals."""
    n = output.shape[-1]
    return output.size // (n * n) * ((n**3 - n) // 3 + n * (n - 1) // 2 + 3 * n)


def _cholesky_nest(lowering: Lowering, node: Node, buffer: str) -> None:
    """Column after column; each divides once."""
    t = lowering.type(node.inputs[0])
    n = order(t)

    def matrix(batch: Index) -> None:
        factor = Matrix(lowering, buffer, batch, t.dtype)

        def given_entry(row: Expr, column: Expr) -> Expr:
            return lowering.element(node.inputs[0], (*batch, row, column))

        def step(j: Expr) -> None:
            square = less_products(lowering, given_entry(j, j), j, lambda k: factor(j, k), lambda k: factor(j, k))
            # The root of 0 would be a factor with a zero on its diagonal, of a matrix that is singular.
            positive = build.binary("gt", square, build.literal(0, t.dtype))
            nan = build.literal(np.nan, t.dtype)
            root = scalar(lowering, "root", build.select(positive, build.unary("sqrt", square), nan))
            scale = scalar(lowering, "scale", build.binary("div", build.literal(1, t.dtype), root))
            factor.store(j, j, root)

            def row(i: Expr) -> None:
                at = after(j, i)
                total = less_products(lowering, given_entry(at, j), j, lambda k: factor(at, k), lambda k: factor(j, k))
                factor.store(at, j, build.mul(total, scale))

            loop(lowering, below(n, j), row)
            loop(lowering, below(n, j), lambda c: factor.store(j, after(j, c), build.literal(0, t.dtype)))

        loop(lowering, n, step)

    loops(lowering, t.shape[:-2], matrix)


# -- LowerUpper: P A = L U with partial pivoting --------------------------------------------------------------------
# The result has one row more than A: L below the diagonal (its own is 1), U from the diagonal on, and in the last row
# the row with which row j was exchanged in step j.


def _factored(a: np.ndarray) -> np.ndarray:
    """The factors of one matrix."""
    n = len(a)
    w = np.concatenate([a, np.zeros_like(a[:1])])
    for j in range(n):
        w[j:n, j] -= w[j:n, :j] @ w[:j, j]
        size = np.abs(w[j:n, j])
        chosen = j + (int(np.argmax(np.where(np.isnan(size), -1, size))) if not np.isnan(size[0]) else 0)
        w[[j, chosen]] = w[[chosen, j]]
        w[n, j] = chosen
        w[j + 1 : n, j] *= 1 / w[j, j]
        w[j, j + 1 :] -= w[j, :j] @ w[:j, j + 1 :]
    return w


def _lower_upper(_: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    a = array(v, 0)
    n = a.shape[-1]
    parts = [_factored(one) for one in a.reshape(-1, n, n)]
    return (np.array(parts, a.dtype).reshape(*a.shape[:-2], n + 1, n),)


def _lower_upper_infer(_: Mapping[str, Any], types: Sequence[TensorType | None], __: Arrays) -> tuple[TensorType, ...]:
    t, n = given(types, 0), order(given(types, 0))
    return (TensorType(t.dtype, (*t.shape[:-2], n + 1, n)),)


def _lower_upper_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    """Products with their differences, comparisons, scalings and reciprocals."""
    n = output.shape[-1]
    products = (n**3 - n) // 6 + n * (n - 1) * (n - 2) // 6
    return output.size // (n * n + n) * (2 * products + n * (n - 1) + n)


def _lower_upper_nest(lowering: Lowering, node: Node, buffer: str) -> None:
    """In each step a column of L, the exchange, and a row of U."""
    t = lowering.type(node.inputs[0])
    n = order(t)

    def matrix(batch: Index) -> None:
        w = Matrix(lowering, buffer, batch, t.dtype)

        def copy(i: Expr) -> None:
            loop(lowering, n, lambda c: w.store(i, c, lowering.element(node.inputs[0], (*batch, i, c))))

        def step(j: Expr) -> None:
            def lower(i: Expr) -> None:
                at = build.add(j, i)
                w.store(at, j, less_products(lowering, w(at, j), j, lambda k: w(at, k), lambda k: w(k, j)))

            def upper(c: Expr) -> None:
                at = after(j, c)
                w.store(j, at, less_products(lowering, w(j, at), j, lambda k: w(j, k), lambda k: w(k, at)))

            loop(lowering, build.sub(build.index(n), j), lower)
            _exchange(w, n, j)
            scale = scalar(lowering, "scale", build.binary("div", build.literal(1, t.dtype), w(j, j)))
            loop(lowering, below(n, j), lambda i: w.store(after(j, i), j, build.mul(w(after(j, i), j), scale)))
            loop(lowering, below(n, j), upper)

        loop(lowering, n, copy)
        loop(lowering, n, step)

    loops(lowering, t.shape[:-2], matrix)


def _exchange(w: Matrix, n: int, j: Expr) -> None:
    """Brings the row with the largest entry in column j, among row j and those that follow, to row j, and notes it."""
    lowering = w.lowering
    best = scalar(lowering, "best", build.unary("abs", w(j, j)), mutable=True)
    place = scalar(lowering, "at", j, mutable=True)

    def look(i: Expr) -> None:
        size = scalar(lowering, "size", build.unary("abs", w(after(j, i), j)))
        wins = scalar(lowering, "wins", build.binary("gt", size, best))
        lowering.emit(Assign(best.name, build.select(wins, size, best)))
        lowering.emit(Assign(place.name, build.select(wins, after(j, i), place)))

    loop(lowering, below(n, j), look)
    w.store(build.index(n), j, build.cast(place, w.dtype))
    chosen = inside(place, n)
    loop(lowering, n, lambda c: w.swap((j, c), (chosen, c)))


for _operator in (
    Operator(
        "Cholesky", "sequence", _cholesky, only_as_a_whole, _cholesky_flops, _cholesky_infer, (), FLOATS, _cholesky_nest
    ),
    Operator(
        "LowerUpper",
        "sequence",
        _lower_upper,
        only_as_a_whole,
        _lower_upper_flops,
        _lower_upper_infer,
        (),
        FLOATS,
        _lower_upper_nest,
    ),
):
    register(_operator)
