"""Softmax, its logarithm, and other functions of sums of exponentials or of maxima.

The maximum is taken off first, so that nothing overflows.
"""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.expansions.pieces import integers, reduced, scalar
from unfoldc.kernels.expansions.table import Call, Maker, axis_of, constant, expands


def _lowered(maker: Maker, x: str, axis: int) -> str:
    """x minus its maximum along the axis. A row with no finite maximum gives NaN, as in PyTorch."""
    return maker.node("Sub", x, reduced(maker, "ReduceMax", x, [axis]))


@expands("Softmax")
def softmax(maker: Maker, call: Call) -> tuple[str, ...]:
    """exp(x) / sum exp(x) along the axis."""
    x = call.inputs[0]
    axis = axis_of(call, len(maker.type(x).shape), -1)
    e = maker.node("Exp", _lowered(maker, x, axis))
    return (maker.node("Div", e, reduced(maker, "ReduceSum", e, [axis])),)


@expands("LogSoftmax")
def log_softmax(maker: Maker, call: Call) -> tuple[str, ...]:
    """x - log sum exp(x) along the axis."""
    x = call.inputs[0]
    axis = axis_of(call, len(maker.type(x).shape), -1)
    low = _lowered(maker, x, axis)
    total = reduced(maker, "ReduceSum", maker.node("Exp", low), [axis])
    return (maker.node("Sub", low, maker.node("Log", total)),)


@expands("Hardmax")
def hardmax(maker: Maker, call: Call) -> tuple[str, ...]:
    """1 at the first maximum along the axis, else 0; NaN counts as the greatest."""
    x = call.inputs[0]
    t = maker.type(x)
    axis = axis_of(call, len(t.shape), -1)
    n = t.shape[axis]
    places = np.arange(n, dtype=t.dtype).reshape([n if a == axis else 1 for a in range(len(t.shape))])
    place = maker.tensor(places)
    best = maker.node("Equal", x, reduced(maker, "ReduceMax", x, [axis]))
    if t.dtype.startswith("float"):
        best = maker.node("Or", best, maker.node("IsNaN", x))
    first = reduced(maker, "ReduceMin", maker.node("Where", best, place, scalar(maker, n, x)), [axis])
    return (maker.node("Where", maker.node("Equal", place, first), scalar(maker, 1, x), scalar(maker, 0, x)),)


def _reduction(maker: Maker, call: Call) -> tuple[list[int], int]:
    """The axes of a reduction, as input (from opset 18) or attribute, and keepdims."""
    wanted = constant(maker, call, 1)
    axes = call.attributes.get("axes") if wanted is None else np.ravel(wanted).tolist()
    rank = len(maker.type(call.inputs[0]).shape)
    if not axes:
        axes = [] if call.attributes.get("noop_with_empty_axes", 0) else range(rank)
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(f"reduction over axes {list(axes)} of a value with {rank} axes")
    return sorted({a % rank for a in axes}), int(call.attributes.get("keepdims", 1))


@expands("ReduceLogSum")
def reduce_log_sum(maker: Maker, call: Call) -> tuple[str, ...]:
    """log of the sum."""
    axes, keepdims = _reduction(maker, call)
    return (maker.node("Log", reduced(maker, "ReduceSum", call.inputs[0], axes, keepdims)),)


@expands("ReduceLogSumExp")
def reduce_log_sum_exp(maker: Maker, call: Call) -> tuple[str, ...]:
    """m + log sum exp(x - m) with the maximum m, or 0 where that is infinite."""
    x, (axes, keepdims) = call.inputs[0], _reduction(maker, call)
    if not axes:
        return (x,)
    top = reduced(maker, "ReduceMax", x, axes)
    m = maker.node("Where", maker.node("IsInf", top), scalar(maker, 0, x), top)
    total = reduced(maker, "ReduceSum", maker.node("Exp", maker.node("Sub", x, m)), axes, keepdims)
    offset = m if keepdims else maker.node("Squeeze", m, integers(maker, axes))
    return (maker.node("Add", maker.node("Log", total), offset),)


@expands("Mean")
def mean(maker: Maker, call: Call) -> tuple[str, ...]:
    """The mean of the inputs, element by element."""
    total = maker.node("Sum", *call.inputs)
    return (maker.node("Div", total, scalar(maker, len(call.inputs), total)),)
