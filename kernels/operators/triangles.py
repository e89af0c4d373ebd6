"""Solving with a triangular matrix, with the factors that LowerUpper leaves, and the inverse from these.

A zero on the diagonal divides, so that a singular matrix gives infinities or NaN.
Source: Golub and Van Loan, Matrix Computations, 4th edition, 3.1 and 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.matrices import Matrix, below, inside, loop, order, scalar, solution, substitute
from unfoldc.kernels.operators.sequences import loops, only_as_a_whole
from unfoldc.kernels.operators.table import (
    FLOATS,
    Arrays,
    Index,
    Lowering,
    Operator,
    array,
    broadcast_index,
    given,
    register,
)
from unfoldc.kernels.program import Node, TensorType


def _substituted(a: np.ndarray, b: np.ndarray, backwards: bool, unit: bool = False) -> np.ndarray:
    """X with A X = B, row by row; of A only the triangle is read."""
    n = a.shape[-1]
    x = np.array(np.broadcast_to(b, (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])))
    for i in reversed(range(n)) if backwards else range(n):
        done = slice(i + 1, n) if backwards else slice(0, i)
        total = x[..., i : i + 1, :] - a[..., i : i + 1, done] @ x[..., done, :]
        x[..., i : i + 1, :] = total if unit else total * (1 / a[..., i : i + 1, i : i + 1])
    return x


def _per_matrix(t: TensorType) -> int:
    """How many matrices the leading axes hold."""
    return t.size // (t.shape[-1] * t.shape[-2])


# -- SolveTriangular -----------------------------------------------------------------------------------------------


def _triangular(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    a, transposed = array(v, 0), bool(attributes["transposed"])
    backwards = bool(attributes["upper"]) != transposed
    return (_substituted(np.swapaxes(a, -1, -2) if transposed else a, array(v, 1), backwards),)


def _triangular_infer(_: Mapping[str, Any], types: Sequence[TensorType | None], __: Arrays) -> tuple[TensorType, ...]:
    a = given(types, 0)
    return (solution(order(a), a.shape[:-2], a.dtype, given(types, 1)),)


def _triangular_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    """Products with their differences, scalings and reciprocals."""
    n, m = output.shape[-2:]
    return _per_matrix(output) * (n * (n - 1) * m + n * m + n)


def _triangular_nest(lowering: Lowering, node: Node, buffer: str) -> None:
    a, b = (lowering.type(name) for name in node.inputs)
    n, m = b.shape[-2:]
    transposed = bool(node.attributes["transposed"])

    def system(batch: Index) -> None:
        def factor(row: Expr, column: Expr) -> Expr:
            entry = (column, row) if transposed else (row, column)
            return lowering.element(node.inputs[0], (*broadcast_index(batch, a.shape[:-2]), *entry))

        def start(row: Expr, column: Expr) -> Expr:
            return lowering.element(node.inputs[1], (*broadcast_index(batch, b.shape[:-2]), row, column))

        x = Matrix(lowering, buffer, batch, a.dtype)
        substitute(x, (n, m), lowering.fresh("c"), factor, start, bool(node.attributes["upper"]) != transposed)

    loops(lowering, np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), system)


# -- SolveFactored: X with A X = B, from what LowerUpper makes of A ------------------------------------------------


def _exchanges(w: np.ndarray) -> list[int]:
    return [int(p) for p in w[-1]]


def _factored(_: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    w, b = array(v, 0), array(v, 1)
    n = w.shape[-1]
    batch = np.broadcast_shapes(w.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
    w = np.broadcast_to(w, (*batch, *w.shape[-2:]))
    for at in np.ndindex(*batch):
        for j, chosen in enumerate(_exchanges(w[at])):
            x[at][[j, chosen]] = x[at][[chosen, j]]
    factors = w[..., :n, :]
    return (_substituted(factors, _substituted(factors, x, backwards=False, unit=True), backwards=True),)


def _factored_order(t: TensorType) -> int:
    if len(t.shape) < 2 or t.shape[-2] != t.shape[-1] + 1 or t.dtype not in FLOATS:
        raise ValueError(f"factors of shape {list(t.shape)}")
    return t.shape[-1]


def _factored_infer(_: Mapping[str, Any], types: Sequence[TensorType | None], __: Arrays) -> tuple[TensorType, ...]:
    w = given(types, 0)
    return (solution(_factored_order(w), w.shape[:-2], w.dtype, given(types, 1)),)


def _factored_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    """Products with their differences of both triangles, scalings and reciprocals."""
    n, m = output.shape[-2:]
    return _per_matrix(output) * (2 * n * (n - 1) * m + n * m + n)


def _factored_nest(lowering: Lowering, node: Node, buffer: str) -> None:
    w, b = (lowering.type(name) for name in node.inputs)
    n, m = b.shape[-2:]

    def system(batch: Index) -> None:
        x, side = Matrix(lowering, buffer, batch, w.dtype), lowering.fresh("c")

        def factor(row: Expr, column: Expr) -> Expr:
            return lowering.element(node.inputs[0], (*broadcast_index(batch, w.shape[:-2]), row, column))

        def copy(i: Expr) -> None:
            def entry(c: Expr) -> None:
                here = (*broadcast_index(batch, b.shape[:-2]), i, c)
                x.store(i, c, lowering.element(node.inputs[1], here))

            loop(lowering, m, entry, side)

        def exchange(j: Expr) -> None:
            chosen = inside(scalar(lowering, "at", build.cast(factor(build.index(n), j), "int32")), n)
            loop(lowering, m, lambda c: x.swap((j, c), (chosen, c)), side)

        loop(lowering, n, copy)
        loop(lowering, n, exchange)
        substitute(x, (n, m), side, factor, x, backwards=False, unit=True)
        substitute(x, (n, m), side, factor, x, backwards=True)

    loops(lowering, np.broadcast_shapes(w.shape[:-2], b.shape[:-2]), system)


# -- InverseFactored: the inverse of A, from what LowerUpper makes of A --------------------------------------------


def _inverse(_: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    w = array(v, 0)
    n = w.shape[-1]
    factors = w[..., :n, :]
    lower = np.array(np.broadcast_to(np.eye(n, dtype=w.dtype), factors.shape))
    for i in range(n):
        lower[..., i, :i] = -(w[..., i, None, :i] @ lower[..., :i, :i])[..., 0, :]
    x = _substituted(factors, lower, backwards=True)
    for at in np.ndindex(*w.shape[:-2]):
        for j, chosen in reversed(list(enumerate(_exchanges(w[at])))):
            x[at][:, [j, chosen]] = x[at][:, [chosen, j]]
    return (x,)


def _inverse_infer(_: Mapping[str, Any], types: Sequence[TensorType | None], __: Arrays) -> tuple[TensorType, ...]:
    w = given(types, 0)
    n = _factored_order(w)
    return (TensorType(w.dtype, (*w.shape[:-2], n, n)),)


def _inverse_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    """Products with their differences for the inverse of L and for U, scalings and reciprocals."""
    n = output.shape[-1]
    return _per_matrix(output) * ((n**3 - n) // 3 + n * n * (n - 1) + n * n + n)


def _inverse_nest(lowering: Lowering, node: Node, buffer: str) -> None:
    """The inverse of L, which is a lower triangle itself; U against it; the exchanges, of columns, backwards."""
    t = lowering.type(node.inputs[0])
    n, dtype = t.shape[-1], t.dtype

    def matrix(batch: Index) -> None:
        x = Matrix(lowering, buffer, batch, dtype)

        def factor(row: Expr, column: Expr) -> Expr:
            return lowering.element(node.inputs[0], (*batch, row, column))

        def lower(i: Expr) -> None:
            def less(k: Expr) -> None:
                scale = scalar(lowering, "scale", factor(i, k))

                def entry(c: Expr) -> None:
                    x.store(i, c, build.sub(x(i, c), build.mul(scale, x(k, c))))

                loop(lowering, build.add(k, build.index(1)), entry, kind="vector")

            loop(lowering, n, lambda c: x.store(i, c, build.literal(0, dtype)))
            x.store(i, i, build.literal(1, dtype))
            loop(lowering, i, less)

        def exchange(i: Expr) -> None:
            j = below(n, i)
            chosen = inside(scalar(lowering, "at", build.cast(factor(build.index(n), j), "int32")), n)
            loop(lowering, n, lambda r: x.swap((r, j), (r, chosen)))

        loop(lowering, n, lower)
        substitute(x, (n, n), lowering.fresh("c"), factor, x, backwards=True)
        loop(lowering, n, exchange)

    loops(lowering, t.shape[:-2], matrix)


for _operator in (
    Operator(
        "SolveTriangular",
        "sequence",
        _triangular,
        only_as_a_whole,
        _triangular_flops,
        _triangular_infer,
        (),
        FLOATS,
        _triangular_nest,
    ),
    Operator(
        "SolveFactored",
        "sequence",
        _factored,
        only_as_a_whole,
        _factored_flops,
        _factored_infer,
        (),
        FLOATS,
        _factored_nest,
    ),
    Operator(
        "InverseFactored",
        "sequence",
        _inverse,
        only_as_a_whole,
        _inverse_flops,
        _inverse_infer,
        (),
        FLOATS,
        _inverse_nest,
    ),
):
    register(_operator)
