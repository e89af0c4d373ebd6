"""Operators that make values from shapes and numbers: import carries out what decides a shape, folding the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, given, register
from unfoldc.kernels.program import Node, TensorType


def _dimensions(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[attributes.get("start", 0) : attributes.get("end")]


def _shape(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    return (np.asarray(_dimensions(attributes, array(v, 0).shape), np.int64),)


def _shape_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    result: Expr = build.literal(0, "int64")
    for axis, n in enumerate(_dimensions(node.attributes, lowering.type(node.inputs[0]).shape)):
        here = build.binary("eq", at[0], build.index(axis))
        result = build.select(here, build.literal(n, "int64"), result)
    return result


def _size_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    return build.literal(lowering.type(node.inputs[0]).size, "int64")


def _filling(attributes: Mapping[str, Any]) -> np.ndarray:
    value = np.ravel(attributes.get("value", np.zeros(1, np.float32)))
    if value.size != 1:
        raise ValueError(f"a filling of {value.size} numbers")
    return value


def _constant_of_shape(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    return (np.broadcast_to(_filling(attributes)[0], tuple(int(d) for d in np.ravel(array(v, 0)))),)


def _constant_of_shape_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    shape = tuple(int(d) for d in np.ravel(array(constants, 0)))
    if any(d < 0 for d in shape):
        raise ValueError(f"the shape {shape}")
    return (TensorType(str(_filling(attributes).dtype), shape),)


def _constant_of_shape_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    value = _filling(node.attributes)[0]
    return build.literal(value.item(), str(value.dtype))


def _length(constants: Arrays) -> int:
    start, stop, step = (array(constants, i).item() for i in range(3))
    if not step:
        raise ValueError("a range with steps of 0")
    return max(int(math.ceil((stop - start) / step)), 0)


def _range(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    start, step = array(v, 0), array(v, 2)
    return ((start + step * np.arange(_length(v), dtype=start.dtype)).astype(start.dtype),)


def _range_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    return (TensorType(given(types, 0).dtype, (_length(constants),)),)


def _range_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    start, step = (lowering.element(node.inputs[i], ()) for i in (0, 2))
    return build.add(start, build.mul(build.cast(at[0], start.dtype), step))


register(Operator("Shape", "pointwise", _shape, _shape_element))
register(Operator("Size", "pointwise", lambda a, v: (np.asarray(array(v, 0).size, np.int64),), _size_element))
register(
    Operator(
        "ConstantOfShape",
        "pointwise",
        _constant_of_shape,
        _constant_of_shape_element,
        infer=_constant_of_shape_infer,
        constant_inputs=(0,),
    )
)
register(Operator("Range", "pointwise", _range, _range_element, infer=_range_infer, constant_inputs=(0, 1, 2)))
