"""`Padded(x, value)`: x moved and cut or extended along each axis, made by expansions alone.

    y[i] = x[i + start]   where that lies inside x,
           value          elsewhere; without a value the nearest element of x.

Unlike a view it gets memory where a reduction reads it: nothing is compared, and no table is read, in the inner loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Const, Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, given, optional, register
from unfoldc.kernels.program import Node, TensorType


def _padded(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    x, value = array(v, 0), optional(v, 1)
    inside = np.True_
    for axis, (start, size) in enumerate(zip(attributes["starts"], attributes["sizes"], strict=True)):
        place, n = np.arange(start, start + size), x.shape[axis]
        if start or size != n:
            x = np.take(x, np.clip(place, 0, n - 1), axis=axis)
            here = (place >= 0) & (place < n)
            inside = inside & here.reshape(size, *[1] * (x.ndim - axis - 1))
    return (np.array(x) if value is None else np.where(inside, x, value),)


def _infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    t, shape = given(types, 0), tuple(attributes["sizes"])
    if len(shape) != len(t.shape) or min((*shape, *t.shape), default=1) < 1:
        raise ValueError(f"{list(t.shape)} cannot become {list(shape)}")
    return (TensorType(t.dtype, shape),)


def _element(lowering: Lowering, node: Node, at: Index) -> Expr:
    shape = lowering.type(node.inputs[0]).shape
    place: list[Expr] = []
    tests: list[Expr] = []
    for i, n, start, size in zip(at, shape, node.attributes["starts"], node.attributes["sizes"], strict=True):
        index = build.add(i, build.index(start)) if start >= 0 else build.sub(i, build.index(-start))
        if isinstance(index, Const):
            place.append(build.index(min(max(int(index.value), 0), n - 1)))
            if place[-1] != index:
                tests.append(build.literal(False, "bool"))
            continue
        # Both sides of a select may be evaluated, so the index is kept inside.
        kept: Expr = index
        if start < 0:
            kept = build.binary("max", kept, build.ZERO)
            tests.append(build.binary("ge", index, build.ZERO))
        if start + size > n:
            kept = build.binary("min", kept, build.index(n - 1))
            tests.append(build.binary("lt", index, build.index(n)))
        place.append(kept)
    result = lowering.element(node.inputs[0], tuple(place))
    if len(node.inputs) < 2 or not tests:
        return result
    value = lowering.element(node.inputs[1], ())
    if any(isinstance(test, Const) for test in tests):
        return value
    inside = tests[0]
    for test in tests[1:]:
        inside = build.binary("and", inside, test)
    return build.select(inside, result, value)


register(Operator("Padded", "pointwise", _padded, _element, infer=_infer))
