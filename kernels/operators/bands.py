"""`Band(x, D)` and `Toeplitz(t)`: matrices with few diagonals, or with one number per diagonal; made by passes alone.

Band:      y[i] = sum over d of D[d, i] x[i + d]   along the axis `axis` of x, -1 or -2
Toeplitz:  T[i, j] = t[rows - 1 - i + j]           a view, contiguous along a row
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.matmul import accumulate
from unfoldc.kernels.operators.table import FLOATS, Arrays, Index, Lowering, Operator, array, given, register
from unfoldc.kernels.program import Node, TensorType

# Bands up to this width are summed in one expression, wider ones in a loop.
_UNROLLED = 16


def _band(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    axis = attributes["axis"]
    x, D = np.moveaxis(array(v, 0), axis, -1), array(v, 1)
    n = x.shape[-1] - len(D) + 1
    y = np.zeros((*x.shape[:-1], n), x.dtype)
    for d, factors in enumerate(D):
        y = y + factors * x[..., d : d + n]
    return (np.moveaxis(y, -1, axis),)


def _band_infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    x, D, axis = given(types, 0), given(types, 1), attributes["axis"]
    if axis not in (-1, -2) or len(x.shape) < -axis or len(D.shape) != 2 or D.dtype != x.dtype:
        raise ValueError(f"a band of {D} for a value of {x} along axis {axis}")
    n = x.shape[axis] - D.shape[0] + 1
    if n < 1 or D.shape[1] not in (1, n):
        raise ValueError(f"diagonals of shape {list(D.shape)} for {x.shape[axis]} elements")
    shape = list(x.shape)
    shape[axis] = n
    return (TensorType(x.dtype, tuple(shape)),)


def _band_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    axis, (x, D) = len(at) + node.attributes["axis"], node.inputs
    width, length = lowering.type(D).shape
    row = build.ZERO if length == 1 else at[axis]

    def term(d: Expr) -> Expr:
        value = lowering.element(x, (*at[:axis], build.add(at[axis], d), *at[axis + 1 :]))
        return build.mul(lowering.element(D, (d, row)), value)

    if width > _UNROLLED:
        return accumulate(lowering, width, lowering.type(x).dtype, term)
    total = term(build.ZERO)
    for d in range(1, width):
        total = build.add(total, term(build.index(d)))
    return total


def _band_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    return 2 * inputs[1].shape[0] * output.size


def _toeplitz(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    rows, columns = attributes["shape"]
    return (array(v, 0)[rows - 1 - np.arange(rows)[:, None] + np.arange(columns)],)


def _toeplitz_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    t, (rows, columns) = given(types, 0), attributes["shape"]
    if t.shape != (rows + columns - 1,):
        raise ValueError(f"{list(t.shape)} numbers for the diagonals of {rows} rows and {columns} columns")
    return (TensorType(t.dtype, (rows, columns)),)


def _toeplitz_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    first = build.sub(build.index(node.attributes["shape"][0] - 1), at[0])
    return lowering.element(node.inputs[0], (build.add(first, at[1]),))


register(Operator("Band", "reduction", _band, _band_element, _band_flops, _band_infer, run_types=FLOATS))
register(Operator("Toeplitz", "view", _toeplitz, _toeplitz_element, infer=_toeplitz_infer))
