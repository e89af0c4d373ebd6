"""Products with a constant matrix, in whichever way a model writes them, and what is put in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.program import Node, Program, TensorType

# Four factors and the sums of their products stay below 1e308; all of float32 does.
_HUGE = 1e60


def constant_value(program: Program, part: Part, name: str) -> tuple[np.ndarray, bool] | None:
    """The value of a constant read directly or through views, and whether it is a stack of one per iteration."""
    if name in program.constants:
        return program.constants[name], name in part.stacked
    node = part.maker.get(name)
    if node is None or OPERATORS[node.operator].kind != "view":
        return None
    inputs = [constant_value(program, part, i) if i else None for i in node.inputs]
    if any(found is None and i for found, i in zip(inputs, node.inputs, strict=True)):
        return None
    stacked = any(found is not None and found[1] for found in inputs)

    def slice_(k: int) -> np.ndarray:
        arrays = [None if f is None else (f[0][k] if f[1] else f[0]) for f in inputs]
        (result,) = OPERATORS[node.operator].evaluate(node.attributes, arrays)
        return np.asarray(result)

    if stacked:
        return np.stack([slice_(k) for k in range(part.count)]), True
    return slice_(0), False


def _varies(part: Part, name: str) -> bool:
    """Whether a stacked constant is read, directly or through views."""
    node = part.maker.get(name)
    if node is None or OPERATORS[node.operator].kind != "view":
        return name in part.stacked
    return any(_varies(part, i) for i in node.inputs)


def moderate(T: np.ndarray) -> bool:
    """Whether the elements are finite and small enough that products of a few of them stay finite in float64."""
    return bool(np.isfinite(T).all()) and float(abs(T).max(initial=0)) < _HUGE


@dataclass(frozen=True)
class Product:
    """A product with a constant matrix: y = T x for vectors x along the last axis, or the last but one if `left`.

    T is (results, length of x), with an axis of iterations in front if `stacked`. A Gemm's alpha is part of T; `turned`
    says that it reads the transpose of `x`, and `bias` with the factor `beta` is to be added.
    """

    x: str
    T: np.ndarray
    stacked: bool
    left: bool
    turned: bool = False
    bias: str = ""
    beta: float = 1.0


def constant_product(program: Program, part: Part, node: Node, stacked: bool) -> Product | None:
    """The node as a product with a constant matrix, of a stack or not; None else, and where both sides are known."""
    if node.operator not in ("MatMul", "Gemm") or stacked != any(_varies(part, name) for name in node.inputs[:2]):
        return None
    sides = [constant_value(program, part, name) for name in node.inputs[:2]]
    if (sides[0] is None) == (sides[1] is None):
        return None
    left = sides[0] is not None
    found = sides[0] or sides[1]
    x = node.inputs[1 if left else 0]
    if found is None or program.types[x].dtype not in ("float32", "float64"):
        return None
    T = found[0]
    rank, own = T.ndim - stacked, len(program.types[x].shape)
    if rank > 2 and rank <= own and all(n == 1 for n in T.shape[stacked:-2]):
        T, rank = T.reshape((*T.shape[:stacked], *T.shape[-2:])), 2
    if rank != 2:
        return None
    if node.operator == "MatMul":
        return Product(x, T if left else np.swapaxes(T, -1, -2), stacked, left)
    return _gemm(node.attributes, node.inputs, x, T, stacked, left)


def _gemm(
    attributes: Mapping[str, Any], inputs: tuple[str, ...], x: str, T: np.ndarray, stacked: bool, left: bool
) -> Product:
    flips = [bool(attributes.get(f"trans{side}", 0)) for side in "AB"]
    T = T if (flips[0] if left else flips[1]) != left else np.swapaxes(T, -1, -2)
    T = T * np.asarray(attributes.get("alpha", 1.0), T.dtype)
    bias = inputs[2] if len(inputs) > 2 else ""
    return Product(x, T, stacked, left, flips[1] if left else flips[0], bias, float(attributes.get("beta", 1.0)))


def replaced(
    rewriter: Rewriter, part: Part, node: Node, product: Product, apply: Callable[[Maker, str], str]
) -> tuple[Node, ...] | None:
    """The nodes for a product whose value `apply` makes from x; a Gemm's transpose and bias are put around it."""
    maker = Maker(rewriter, part, node)
    x = maker.node("Transpose", product.x, perm=[1, 0]) if product.turned else product.x
    result = apply(maker, x)
    if product.bias:
        bias = product.bias
        if product.beta != 1.0:
            bias = maker.node("Mul", bias, maker.number(product.beta, bias))
        result = maker.node("Add", result, bias)
    return maker.done(result)


def multiplied(maker: Maker, matrix: str, x: str, left: bool, transpose: bool = False) -> str:
    """The matrix (results, length), or its transpose, times x along the axis that `left` says."""
    if transpose == left:
        matrix = maker.node("Transpose", matrix, perm=[1, 0])
    return maker.node("MatMul", matrix, x) if left else maker.node("MatMul", x, matrix)


def along(value: np.ndarray, x: TensorType, left: bool) -> np.ndarray:
    """Factors (..., n) of the elements of a vector in the shape that multiplies x; one number stays one number."""
    return value[..., None] if left and len(x.shape) > 1 else value
