"""Operators that make values from shapes: they fold at import, since every dimension is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, register
from unfoldc.kernels.program import Node


def _shape(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    dims = array(v, 0).shape[attributes.get("start", 0) : attributes.get("end")]
    return (np.asarray(dims, np.int64),)


def _constant_of_shape(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    value = np.ravel(attributes.get("value", np.zeros(1, np.float32)))[0]
    return (np.broadcast_to(value, tuple(int(d) for d in np.ravel(array(v, 0)))),)


def _constant_of_shape_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    value = np.ravel(node.attributes.get("value", np.zeros(1, np.float32)))[0]
    return build.literal(value.item(), str(value.dtype))


def _range(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    start, stop, step = (array(v, i).reshape(()) for i in range(3))
    return (np.arange(start.item(), stop.item(), step.item(), dtype=array(v, 0).dtype),)


def _folded(lowering: Lowering, node: Node, at: Index) -> Expr:
    raise ValueError(f"{node.operator} needs inputs that are known at compile time")


register(Operator("Shape", "view", _shape, _folded))
register(Operator("Size", "view", lambda a, v: (np.asarray(array(v, 0).size, np.int64),), _folded))
register(Operator("ConstantOfShape", "pointwise", _constant_of_shape, _constant_of_shape_element, constant_inputs=(0,)))
register(Operator("Range", "view", _range, _folded, constant_inputs=(0, 1, 2)))
