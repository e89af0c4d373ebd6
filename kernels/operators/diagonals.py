"""Diagonals and triangles of matrices: both decide by the place of an element, not by tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, given, optional, register
from unfoldc.kernels.program import Node, TensorType


def _diagonal(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    first, second = attributes["axes"]
    return (np.moveaxis(np.diagonal(array(v, 0), axis1=first, axis2=second), -1, first),)


def _diagonal_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    first, second = node.attributes["axes"]
    return lowering.element(node.inputs[0], (*at[:second], at[first], *at[second:]))


def _diagonal_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    t, (first, second) = given(types, 0), attributes["axes"]
    if not 0 <= first < second < len(t.shape) or t.shape[first] != t.shape[second]:
        raise ValueError(f"axes {first} and {second} of shape {list(t.shape)} have no diagonal")
    return (TensorType(t.dtype, (*t.shape[:second], *t.shape[second + 1 :])),)


def _offset(value: np.ndarray | None) -> int:
    if value is not None and value.size != 1:
        raise ValueError(f"{value.size} diagonals")
    return 0 if value is None else int(value.item())


def _trilu(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    keep = np.triu if attributes.get("upper", 1) else np.tril
    return (keep(array(v, 0), _offset(optional(v, 1))),)


def _trilu_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    t = given(types, 0)
    if len(t.shape) < 2:
        raise ValueError(f"a value with {len(t.shape)} axes has no triangle")
    _offset(optional(constants, 1))
    return (t,)


def _trilu_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    value = lowering.element(node.inputs[0], at)
    k = _offset(lowering.constant(node.inputs[1])) if len(node.inputs) > 1 and node.inputs[1] else 0
    # Kept within int32; beyond the matrix all diagonals are alike.
    k = max(-(2**30), min(2**30, k))
    side = "ge" if node.attributes.get("upper", 1) else "le"
    inside = build.binary(side, at[-1], build.add(at[-2], build.index(k)))
    return build.select(inside, value, build.literal(0, value.dtype))


register(Operator("Diagonal", "view", _diagonal, _diagonal_element, infer=_diagonal_infer))
register(Operator("Trilu", "pointwise", _trilu, _trilu_element, infer=_trilu_infer, constant_inputs=(1,)))
