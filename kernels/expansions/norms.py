"""Normalisations. The deviation from the mean is squared, not the value: nothing cancels."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.expansions.pieces import converted, reduced, reshaped, scalar
from unfoldc.kernels.expansions.table import Call, Maker, axis_of, expands

_EPSILON = 1e-5


def _epsilon(maker: Maker, call: Call, value: str) -> str:
    return maker.node("Add", value, scalar(maker, call.attributes.get("epsilon", _EPSILON), value))


def _standard(maker: Maker, call: Call, x: str, axes: Sequence[int]) -> tuple[str, str, str]:
    """(x - mean) / sqrt(variance + epsilon) over the axes; the mean; the root."""
    mean = reduced(maker, "ReduceMean", x, axes)
    centred = maker.node("Sub", x, mean)
    # A product of its own, not the square inside a sum: one value to keep, whatever reads it.
    variance = reduced(maker, "ReduceMean", maker.node("Mul", centred, centred), axes)
    root = maker.node("Sqrt", _epsilon(maker, call, variance))
    return maker.node("Div", centred, root), mean, root


def _affine(maker: Maker, value: str, scale: str, bias: str, shape: Sequence[int] | None = None) -> str:
    """`scale value + bias`, where these are given, in this shape and in the value's type."""
    for operator, name in (("Mul", scale), ("Add", bias)):
        if name:
            typed = converted(maker, name, maker.type(value).dtype)
            value = maker.node(operator, value, typed if shape is None else reshaped(maker, typed, shape))
    return value


def _channels(maker: Maker, call: Call) -> list[int]:
    """The shape of one number per channel: axis 1 of the value."""
    shape = maker.type(call.inputs[0]).shape
    return [shape[1] if a == 1 else 1 for a in range(len(shape))] if len(shape) > 1 else [1]


@expands("BatchNormalization")
def batch_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """scale (x - mean) / sqrt(variance + epsilon) + bias, with the recorded mean and variance of each channel."""
    if call.attributes.get("training_mode", 0) or any(call.wants(i) for i in range(1, len(call.outputs))):
        raise ValueError("it trains: export in evaluation mode")
    x, dtype, shape = call.inputs[0], maker.type(call.inputs[0]).dtype, _channels(maker, call)
    scale, bias, mean, variance = (converted(maker, name, dtype) for name in call.inputs[1:5])
    factor = maker.node("Div", scale, maker.node("Sqrt", _epsilon(maker, call, variance)))
    centred = maker.node("Sub", x, reshaped(maker, mean, shape))
    return (_affine(maker, centred, factor, bias, shape),)


@expands("InstanceNormalization")
def instance_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """Each channel of each problem, over its places."""
    x, scale, bias = call.inputs
    axes = range(2, len(maker.type(x).shape))
    if not axes:
        raise ValueError("a value with channels and at least one more axis is needed")
    return (_affine(maker, _standard(maker, call, x, list(axes))[0], scale, bias, _channels(maker, call)),)


@expands("GroupNormalization")
def group_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """Channels in groups; scale and bias for each group (opset 18) or for each channel (from 21)."""
    x, scale, bias = call.inputs
    shape, groups = maker.type(x).shape, int(call.attributes["num_groups"])
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise ValueError(f"{groups} groups of channels in shape {list(shape)}")
    each = shape[1] // groups
    grouped = reshaped(maker, x, [shape[0], groups, each, *shape[2:]])
    normal, _, _ = _standard(maker, call, grouped, list(range(2, len(shape) + 1)))
    ones = [1] * (len(shape) - 2)
    numbers = [1, groups, 1 if call.opset < 21 else each, *ones]
    return (reshaped(maker, _affine(maker, normal, scale, bias, numbers), shape),)


@expands("LayerNormalization")
def layer_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """Over the axes from `axis` on; further results are the mean and one over the root of the variance."""
    x = call.inputs[0]
    rank = len(maker.type(x).shape)
    axes = list(range(axis_of(call, rank, -1), rank))
    normal, mean, root = _standard(maker, call, x, axes)
    inverse = ""
    if call.wants(2):
        inverse = converted(maker, maker.node("Reciprocal", root), "float32" if _single(call) else maker.type(x).dtype)
    if call.wants(1):
        mean = converted(maker, mean, "float32" if _single(call) else maker.type(x).dtype)
    return _affine(maker, normal, call.input(1), call.input(2)), mean, inverse


def _single(call: Call) -> bool:
    """Whether the statistics are handed out in float32."""
    return int(call.attributes.get("stash_type", 1)) == 1


@expands("RMSNormalization")
def rms_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """scale x / sqrt(mean of x^2 + epsilon), over the axes from `axis` on."""
    x = call.inputs[0]
    rank = len(maker.type(x).shape)
    axes = list(range(axis_of(call, rank, -1), rank))
    square = reduced(maker, "ReduceMean", maker.node("Mul", x, x), axes)
    return (_affine(maker, maker.node("Div", x, maker.node("Sqrt", _epsilon(maker, call, square))), call.input(1), ""),)


@expands("LpNormalization")
def lp_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """x / |x|_p along an axis, p = 1 or 2; 0 where the norm is 0."""
    x, p = call.inputs[0], int(call.attributes.get("p", 2))
    if p not in (1, 2):
        raise ValueError(f"p = {p}, where 1 or 2 is defined")
    norm = reduced(maker, f"ReduceL{p}", x, [axis_of(call, len(maker.type(x).shape), -1)])
    nothing = maker.node("Equal", norm, scalar(maker, 0, x))
    return (maker.node("Div", x, maker.node("Where", nothing, scalar(maker, 1, x), norm)),)


@expands("MeanVarianceNormalization")
def mean_variance_normalization(maker: Maker, call: Call) -> tuple[str, ...]:
    """(x - mean) / (standard deviation + 1e-9) over the axes."""
    x = call.inputs[0]
    rank = len(maker.type(x).shape)
    axes = call.attributes.get("axes", [0, 2, 3])
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(f"axes {list(axes)} of a value with {rank} axes")
    axes = sorted({a % rank for a in axes})
    centred = maker.node("Sub", x, reduced(maker, "ReduceMean", x, axes))
    deviation = maker.node("Sqrt", reduced(maker, "ReduceMean", maker.node("Mul", centred, centred), axes))
    return (maker.node("Div", centred, maker.node("Add", deviation, scalar(maker, 1e-9, x))),)
