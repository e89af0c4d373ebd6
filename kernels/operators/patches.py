"""`Patches(x)`: all places of a small window that moves over the last axes, as a view made by expansions alone.

y[.., p, .., k, ..] = x[.., p * stride + k * dilation, ..] of shape (.., places .., kernel ..).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.table import Arrays, Index, Lowering, Operator, array, given, register
from unfoldc.kernels.program import Node, TensorType


def places(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """How many places the window has along each axis; raises ValueError where it does not fit."""
    result = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)]
    if min(*result, *kernel, 1) < 1:
        raise ValueError(f"a window of {list(kernel)}, dilated by {list(dilations)}, on axes of {list(sizes)}")
    return result


def windows(x: np.ndarray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> np.ndarray:
    """The patches of x, without a copy."""
    rank = len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    y = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(x.ndim - rank, x.ndim)))
    steps = (*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    return np.asarray(y[(*[slice(None)] * (x.ndim - rank), *steps)])


def window_index(at: Index, kernel: Index, strides: Sequence[int], dilations: Sequence[int]) -> Index:
    """Where element `kernel` of the window at place `at` lies."""
    return tuple(
        build.add(build.mul(i, build.index(s)), build.mul(k, build.index(d)))
        for i, k, s, d in zip(at, kernel, strides, dilations, strict=True)
    )


def _patches(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    return (windows(array(v, 0), attributes["kernel"], attributes["strides"], attributes["dilations"]),)


def _infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    t, kernel = given(types, 0), attributes["kernel"]
    lead = len(t.shape) - len(kernel)
    out = places(t.shape[lead:], kernel, attributes["strides"], attributes["dilations"])
    return (TensorType(t.dtype, (*t.shape[:lead], *out, *kernel)),)


def _element(lowering: Lowering, node: Node, at: Index) -> Expr:
    rank, a = len(node.attributes["kernel"]), node.attributes
    lead = len(at) - 2 * rank
    place = window_index(at[lead : lead + rank], at[lead + rank :], a["strides"], a["dilations"])
    return lowering.element(node.inputs[0], (*at[:lead], *place))


register(Operator("Patches", "view", _patches, _element, infer=_infer))
