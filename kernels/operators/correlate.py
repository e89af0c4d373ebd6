"""`Correlate(x, w, b)`: what Conv does once x is padded; made by expansions alone.

y[n, o, p] = b[o] + sum over c and k of x[n, first(o) + c, p * stride + k * dilation] w[o, c, k]
with x of shape (batch, channels, ..), w (results, channels / group, ..) and first(o) where the group of o begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Var
from unfoldc.kernels.operators.patches import places, window_index, windows
from unfoldc.kernels.operators.table import FLOATS, Arrays, Index, Lowering, Operator, array, given, optional, register
from unfoldc.kernels.program import Node, TensorType


def _correlate(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    x, w, bias, group = array(v, 0), array(v, 1), optional(v, 2), attributes["group"]
    patches = windows(x, w.shape[2:], attributes["strides"], attributes["dilations"])
    rank, rows = w.ndim - 2, w.shape[0] // group
    parts = []
    for one, weights in zip(np.split(patches, group, axis=1), np.split(w, group, axis=0), strict=True):
        summed = [1, *range(2 + rank, 2 + 2 * rank)]
        parts.append(np.moveaxis(np.tensordot(one, weights, (summed, list(range(1, 2 + rank)))), -1, 1))
    y = np.concatenate(parts, axis=1).reshape(x.shape[0], rows * group, *patches.shape[2 : 2 + rank])
    return (y if bias is None else y + bias.reshape(-1, *[1] * rank),)


def _infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    x, w, group = given(types, 0), given(types, 1), attributes["group"]
    if len(x.shape) != len(w.shape) or len(x.shape) < 3:
        raise ValueError(f"weights of shape {w.shape} for a value of shape {x.shape}")
    if group < 1 or w.shape[0] % group or w.shape[1] * group != x.shape[1]:
        raise ValueError(f"{group} groups of weights of shape {w.shape} for {x.shape[1]} channels")
    bias = types[2] if len(types) > 2 else None
    if bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"a bias of shape {bias.shape} for {w.shape[0]} results")
    out = places(x.shape[2:], w.shape[2:], attributes["strides"], attributes["dilations"])
    return (TensorType(x.dtype, (x.shape[0], w.shape[0], *out)),)


def _element(lowering: Lowering, node: Node, at: Index) -> Expr:
    x, w = (lowering.type(name) for name in node.inputs[:2])
    a = node.attributes
    has_bias = len(node.inputs) > 2 and bool(node.inputs[2])
    start = lowering.element(node.inputs[2], (at[1],)) if has_bias else build.literal(0, x.dtype)
    name = lowering.fresh("acc")
    lowering.emit(Let(name, start, mutable=True))
    variables = [lowering.fresh("j") for _ in w.shape[1:]]
    channel, *kernel = (Var(v) if n > 1 else build.ZERO for v, n in zip(variables, w.shape[1:], strict=True))
    block = build.binary("floordiv", at[1], build.index(w.shape[0] // a["group"])) if a["group"] > 1 else build.ZERO
    first = build.mul(block, build.index(w.shape[1]))

    def body() -> None:
        place = (at[0], build.add(first, channel), *window_index(at[2:], tuple(kernel), a["strides"], a["dilations"]))
        value = lowering.element(node.inputs[0], place)
        weight = lowering.element(node.inputs[1], (at[1], channel, *kernel))
        lowering.emit(Assign(name, build.add(Local(name, x.dtype), build.mul(value, weight))))

    loops = lowering.nested(body)
    for variable, n in reversed(list(zip(variables, w.shape[1:], strict=True))):
        if n > 1:
            loops = (For(variable, n, loops),)
    for statement in loops:
        lowering.emit(statement)
    return Local(name, x.dtype)


def _flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    return 2 * output.size * math.prod(inputs[1].shape[1:])


register(Operator("Correlate", "reduction", _correlate, _element, _flops, _infer, run_types=FLOATS))
