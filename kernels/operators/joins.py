"""Operators that put several values together: each result element comes from one of the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, given, register
from unfoldc.kernels.program import Node, TensorType


def _concat(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    return (np.concatenate([array(v, i) for i in range(len(v))], axis=attributes["axis"]),)


def _concat_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    shapes = [given(types, i).shape for i in range(len(types))]
    axis, rank = attributes["axis"], len(shapes[0])
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a value with {rank} axes")
    axis %= rank
    if len({(len(s), s[:axis], s[axis + 1 :]) for s in shapes}) > 1:
        raise ValueError("parts may differ along the joined axis only")
    total = sum(s[axis] for s in shapes)
    return (TensorType(given(types, 0).dtype, (*shapes[0][:axis], total, *shapes[0][axis + 1 :])),)


def _concat_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    axis = node.attributes["axis"] % len(at)
    end = lowering.type(node.outputs[0]).shape[axis]
    parts: list[tuple[int, Expr]] = []
    for name in reversed(node.inputs):
        n = lowering.type(name).shape[axis]
        end -= n
        # Both sides of a select may be evaluated, so the index is kept inside the part it reads.
        above = build.binary("max", build.sub(at[axis], build.index(end)), build.ZERO)
        inside = build.binary("min", above, build.index(n - 1))
        parts.append((end, lowering.element(name, (*at[:axis], inside, *at[axis + 1 :]))))
    start, result = parts[0]
    for first, value in parts[1:]:
        result = build.select(build.binary("lt", at[axis], build.index(start)), value, result)
        start = first
    return result


register(Operator("Concat", "pointwise", _concat, _concat_element, infer=_concat_infer))
