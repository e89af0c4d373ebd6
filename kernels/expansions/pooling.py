"""Pools: reductions over the patches of a padded value."""

from __future__ import annotations

from functools import reduce

import numpy as np

from unfoldc.kernels.expansions.geometry import Geometry, extents, geometry, whole
from unfoldc.kernels.expansions.padding import number, surrounded
from unfoldc.kernels.expansions.table import Call, Maker, expands


@expands("MaxPool")
def max_pool(maker: Maker, call: Call) -> tuple[str, ...]:
    """The greatest element of each window; its place, the second result, is not made."""
    dtype = maker.type(call.inputs[0]).dtype
    lowest = -np.inf if dtype.startswith("float") else np.iinfo(dtype).min
    _, x = _patches(maker, call, lowest)
    return (_reduced(maker, "ReduceMax", x),)


@expands("AveragePool")
def average_pool(maker: Maker, call: Call) -> tuple[str, ...]:
    """The mean of each window, of which only what lies in x (or in the padding asked for) is counted."""
    sizes = maker.type(call.inputs[0]).shape[2:]
    g, x = _patches(maker, call, 0)
    padded = bool(call.attributes.get("count_include_pad", 0))
    counts = reduce(np.multiply.outer, [_counts(g, i, n, padded) for i, n in enumerate(sizes)])
    if (counts == np.prod(g.kernel)).all():
        return (_reduced(maker, "ReduceMean", x),)
    total = _reduced(maker, "ReduceSum", x)
    # A window that lies in the padding alone has no mean: 0 / 0.
    return (maker.node("Div", total, maker.tensor(counts.astype(maker.type(x).dtype))),)


@expands("LpPool")
def lp_pool(maker: Maker, call: Call) -> tuple[str, ...]:
    """(sum of |x|^p)^(1/p) of each window."""
    p = _power(call)
    if p in (1, 2):
        return (_reduced(maker, f"ReduceL{p}", _patches(maker, call, 0)[1]),)
    x = call.inputs[0]
    dtype = maker.type(x).dtype
    raised = maker.node("Pow", maker.node("Abs", x), number(maker, p, dtype))
    total = _reduced(maker, "ReduceSum", _patches(maker, call, 0, raised)[1])
    return (maker.node("Pow", total, number(maker, 1 / p, dtype)),)


@expands("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(maker: Maker, call: Call) -> tuple[str, ...]:
    """The mean, greatest element or p-norm of each channel; the axes stay, with length 1."""
    x = call.inputs[0]
    t = maker.type(x)
    axes = list(range(2, len(t.shape)))
    if not axes:
        raise ValueError(f"a value of shape {list(t.shape)}, expected (batch, channels, ..)")
    if call.operator != "GlobalLpPool":
        operator = "ReduceMean" if call.operator == "GlobalAveragePool" else "ReduceMax"
        return (maker.node(operator, x, axes=axes, keepdims=1),)
    p = _power(call)
    if p in (1, 2):
        return (maker.node(f"ReduceL{p}", x, axes=axes, keepdims=1),)
    raised = maker.node("Pow", maker.node("Abs", x), number(maker, p, t.dtype))
    return (maker.node("Pow", maker.node("ReduceSum", raised, axes=axes, keepdims=1), number(maker, 1 / p, t.dtype)),)


def _power(call: Call) -> int:
    p = int(call.attributes.get("p", 2))
    if p < 1:
        raise ValueError(f"p = {p}")
    return p


def _patches(maker: Maker, call: Call, filling: float, x: str = "") -> tuple[Geometry, str]:
    """The windows of the pool over x, by default its input, surrounded by `filling`."""
    x = x or call.inputs[0]
    t = maker.type(x)
    rank = len(t.shape) - 2
    g = geometry(call, t.shape[2:], whole(call, "kernel_shape", rank, 0, 1))
    if any((*g.before, *g.needed)):
        x = surrounded(maker, x, (0, 0, *g.before), (0, 0, *g.needed), number(maker, filling, t.dtype))
    return g, maker.node("Patches", x, kernel=list(g.kernel), strides=list(g.strides), dilations=list(g.dilations))


def _reduced(maker: Maker, operator: str, patches: str) -> str:
    rank = len(maker.type(patches).shape)
    spatial = (rank - 2) // 2
    return maker.node(operator, patches, axes=list(range(rank - spatial, rank)), keepdims=0)


def _counts(g: Geometry, axis: int, n: int, padded: bool) -> np.ndarray:
    """How many elements of each window along an axis count."""
    (span,) = extents(g.kernel[axis : axis + 1], g.dilations[axis : axis + 1])
    first = np.arange(g.out[axis]) * g.strides[axis] - g.before[axis]
    place = first[:, None] + np.arange(0, span, g.dilations[axis])
    low, high = (-g.before[axis], n + g.after[axis]) if padded else (0, n)
    return np.asarray(np.count_nonzero((place >= low) & (place < high), axis=1))
