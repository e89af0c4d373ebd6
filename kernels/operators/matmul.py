"""Matrix products: MatMul (NumPy's rules, batch axes broadcast) and Gemm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Var
from unfoldc.kernels.operators.table import (
    FLOATS,
    NUMBERS,
    Arrays,
    Index,
    Lowering,
    Operator,
    array,
    broadcast_index,
    given,
    optional,
    register,
)
from unfoldc.kernels.program import Node, TensorType


def product_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of `a @ b`; raises ValueError with the two shapes where they do not fit."""
    if not a or not b:
        raise ValueError(f"a matrix product needs at least one axis on each side, got {a} and {b}")
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    if left[-1] != right[-2]:
        raise ValueError(f"a matrix product of {a} and {b}: {left[-1]} columns against {right[-2]} rows")
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    rows = () if len(a) == 1 else (left[-2],)
    columns = () if len(b) == 1 else (right[-1],)
    return (*batch, *rows, *columns)


def accumulate(lowering: Lowering, n: int, dtype: str, term: Any, start: Expr | None = None) -> Expr:
    """Emits `acc = start; for j < n: acc += term(j)` and returns acc. `term` gets the index expression."""
    name, var = lowering.fresh("acc"), lowering.fresh("j")
    lowering.emit(Let(name, build.literal(0, dtype) if start is None else start, mutable=True))
    at: Expr = build.ZERO if n == 1 else Var(var)

    def body() -> None:
        lowering.emit(Assign(name, build.add(Local(name, dtype), term(at))))

    block = lowering.nested(body)
    if n == 1:
        for statement in block:
            lowering.emit(statement)
    else:
        lowering.emit(For(var, n, block))
    return Local(name, dtype)


def _matmul_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    a, b = given(types, 0), given(types, 1)
    if a.dtype != b.dtype:
        raise ValueError(f"a matrix product of {a.dtype} and {b.dtype}")
    return (TensorType(a.dtype, product_shape(a.shape, b.shape)),)


def _matmul_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    a, b = (lowering.type(name) for name in node.inputs)
    row = () if len(a.shape) == 1 else (at[-1 if len(b.shape) == 1 else -2],)
    column = () if len(b.shape) == 1 else (at[-1],)
    batch = at[: len(at) - len(row) - len(column)]

    def term(j: Expr) -> Expr:
        left = (*broadcast_index(batch, a.shape[:-2]), *row, j)
        right = (*broadcast_index(batch, b.shape[:-2]), j, *column)
        return build.mul(lowering.element(node.inputs[0], left), lowering.element(node.inputs[1], right))

    return accumulate(lowering, a.shape[-1], a.dtype, term)


def _matmul_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    return 2 * inputs[0].shape[-1] * output.size


def _gemm(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    a, b, c = array(v, 0), array(v, 1), optional(v, 2)
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    y = np.asarray(attributes.get("alpha", 1.0), a.dtype) * (a @ b)
    if c is not None:
        y = y + np.asarray(attributes.get("beta", 1.0), a.dtype) * c
    return (y.astype(a.dtype),)


def _gemm_infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    a, b = given(types, 0), given(types, 1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise ValueError(f"Gemm multiplies matrices, got {a.shape} and {b.shape}")
    shape = product_shape(
        a.shape[::-1] if attributes.get("transA", 0) else a.shape,
        b.shape[::-1] if attributes.get("transB", 0) else b.shape,
    )
    bias = types[2] if len(types) > 2 else None
    if bias is not None and np.broadcast_shapes(bias.shape, shape) != shape:
        raise ValueError(f"a bias of shape {bias.shape} for a result of shape {shape}")
    return (TensorType(a.dtype, shape),)


def _gemm_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    a, attributes = lowering.type(node.inputs[0]), node.attributes
    flip_a, flip_b = attributes.get("transA", 0), attributes.get("transB", 0)

    def term(j: Expr) -> Expr:
        left = (j, at[0]) if flip_a else (at[0], j)
        right = (at[1], j) if flip_b else (j, at[1])
        return build.mul(lowering.element(node.inputs[0], left), lowering.element(node.inputs[1], right))

    result = accumulate(lowering, a.shape[0 if flip_a else 1], a.dtype, term)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if alpha != 1.0:
        result = build.mul(build.literal(alpha, a.dtype), result)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = lowering.element(node.inputs[2], broadcast_index(at, lowering.type(node.inputs[2]).shape))
        result = build.add(result, bias if beta == 1.0 else build.mul(build.literal(beta, a.dtype), bias))
    return result


def _gemm_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    return 2 * output.size * (inputs[0].size // output.shape[0])


register(
    Operator(
        "MatMul",
        "reduction",
        lambda _, v: (np.matmul(array(v, 0), array(v, 1)),),
        _matmul_element,
        _matmul_flops,
        _matmul_infer,
        run_types=NUMBERS,
    )
)
register(Operator("Gemm", "reduction", _gemm, _gemm_element, _gemm_flops, _gemm_infer, run_types=FLOATS))
