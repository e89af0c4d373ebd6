"""Operators that put several values together: each result element comes from one of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, register
from unfoldc.kernels.program import Node


def _concat(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    return (np.concatenate([array(v, i) for i in range(len(v))], axis=attributes["axis"]),)


def _concat_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    axis = node.attributes["axis"] % len(at)
    result: Expr | None = None
    end = lowering.type(node.outputs[0]).shape[axis]
    for name in reversed(node.inputs):
        n = lowering.type(name).shape[axis]
        start = end - n
        # Both sides of a select may be evaluated, so the index is kept inside the part it reads.
        inside = build.binary("min", build.binary("max", build.sub(at[axis], build.index(start)), build.ZERO),
                              build.index(n - 1))  # fmt: skip
        value = lowering.element(name, (*at[:axis], inside, *at[axis + 1 :]))
        result = (
            value if result is None else build.select(build.binary("lt", at[axis], build.index(end)), value, result)
        )
        end = start
    if result is None:
        raise ValueError("Concat without inputs")
    return result


register(Operator("Concat", "pointwise", _concat, _concat_element))
