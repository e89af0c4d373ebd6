"""DepthToSpace, SpaceToDepth and Col2Im: channels and places exchanged."""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.expansions.geometry import extents, pads_of, whole
from unfoldc.kernels.expansions.padding import number, spread, surrounded
from unfoldc.kernels.expansions.splits import given, window
from unfoldc.kernels.expansions.table import Call, Maker, expands


def _reshaped(maker: Maker, x: str, *shape: int) -> str:
    return maker.node("Reshape", x, maker.tensor(np.array(shape, np.int64)))


@expands("DepthToSpace")
def depth_to_space(maker: Maker, call: Call) -> tuple[str, ...]:
    """(batch, c b b, h, w) -> (batch, c, h b, w b); `mode` says where in the channels the blocks stand."""
    x, b = call.inputs[0], _block(call)
    _, channels, height, width = _image(maker, x)
    if channels % (b * b):
        raise ValueError(f"{channels} channels in blocks of {b} x {b}")
    rest = channels // (b * b)
    if str(call.attributes.get("mode", "DCR")) == "DCR":
        y = maker.node("Transpose", _reshaped(maker, x, 0, b, b, rest, height, width), perm=[0, 3, 4, 1, 5, 2])
    else:
        y = maker.node("Transpose", _reshaped(maker, x, 0, rest, b, b, height, width), perm=[0, 1, 4, 2, 5, 3])
    return (_reshaped(maker, y, 0, rest, height * b, width * b),)


@expands("SpaceToDepth")
def space_to_depth(maker: Maker, call: Call) -> tuple[str, ...]:
    """(batch, c, h b, w b) -> (batch, b b c, h, w)."""
    x, b = call.inputs[0], _block(call)
    _, channels, height, width = _image(maker, x)
    if height % b or width % b:
        raise ValueError(f"an image of {height} x {width} in blocks of {b} x {b}")
    y = _reshaped(maker, x, 0, channels, height // b, b, width // b, b)
    y = maker.node("Transpose", y, perm=[0, 3, 5, 1, 2, 4])
    return (_reshaped(maker, y, 0, channels * b * b, height // b, width // b),)


@expands("Col2Im")
def col2im(maker: Maker, call: Call) -> tuple[str, ...]:
    """Blocks (batch, c k, places) added up to an image (batch, c, size ..): y[s i + d k - begin] += x[k, i].

    Block elements whose places have the same remainder by s never meet, so that each place sums ceil(span / s) of them.
    """
    x, sizes, kernel = call.inputs[0], *([int(n) for n in np.ravel(given(maker, call, i))] for i in (1, 2))
    rank = len(sizes)
    strides, dilations = whole(call, "strides", rank, 1, 1), whole(call, "dilations", rank, 1, 1)
    (begin, end), spans = pads_of(call, rank), extents(kernel, dilations)
    shape = maker.type(x).shape
    counts = [(n + b + e - span) // s + 1 for n, b, e, span, s in zip(sizes, begin, end, spans, strides, strict=True)]
    area = int(np.prod(kernel))
    if len(shape) != 3 or min((*counts, area)) < 1 or shape[1] % area or shape[2] != np.prod(counts):
        raise ValueError(f"blocks of shape {list(shape)} for an image of {sizes} and a window of {kernel}")
    channels = shape[1] // area
    zero = number(maker, 0, maker.type(x).dtype)
    # One axis after the other: (.., k, .., i, ..) -> (.., size, ..).
    y = _reshaped(maker, x, 0, channels, *kernel, *counts)
    for axis in range(rank):
        left = rank - axis
        first, place = 2 + axis, 2 + axis + left
        y = _joined(maker, y, first, place, (strides[axis], dilations[axis], begin[axis], sizes[axis]), zero)
    return (y,)


def _joined(maker: Maker, x: str, first: int, place: int, steps: tuple[int, int, int, int], zero: str) -> str:
    """Axes `first` (within a block) and `place` (which block) as one axis of the image, which stands at `first`."""
    stride, dilation, begin, size = steps
    shape = maker.type(x).shape
    lead, count = shape[1:first], shape[place]
    behind = [a for a in range(first + 1, len(shape)) if a != place]
    tail = [shape[a] for a in behind]
    x = maker.node("Transpose", x, perm=[*range(first + 1), place, *behind])
    if stride > 1:
        x, dilation = spread(maker, x, first, dilation), 1
    taps = -(-maker.type(x).shape[first] // stride)
    after = [0] * len(shape)
    after[first] = taps * stride - maker.type(x).shape[first]
    x = surrounded(maker, x, [0] * len(shape), after, zero)
    x = _reshaped(maker, x, 0, *lead, taps, stride, count, *tail)
    # Block i reaches the results stride * (i + moved) + remainder.
    low, high = begin // stride, -(-(begin + size) // stride)
    terms = []
    for tap in range(taps):
        part, moved = window(maker, x, {first: (tap, 1)}), tap * dilation
        front, back = [0] * (len(shape) + 1), [0] * (len(shape) + 1)
        front[first + 2], back[first + 2] = moved - low, high - count - moved
        terms.append(surrounded(maker, part, front, back, zero))
    y = maker.node("Sum", *terms) if taps > 1 else terms[0]
    y = _reshaped(maker, y, 0, *lead, stride, high - low, *tail)
    y = maker.node("Transpose", y, perm=[*range(first), first + 1, first, *range(first + 2, len(shape))])
    return window(maker, _reshaped(maker, y, 0, *lead, (high - low) * stride, *tail), {first: (begin % stride, size)})


def _block(call: Call) -> int:
    b = int(call.attributes["blocksize"])
    if b < 1:
        raise ValueError(f"blocks of {b}")
    return b


def _image(maker: Maker, x: str) -> tuple[int, int, int, int]:
    shape = maker.type(x).shape
    if len(shape) != 4:
        raise ValueError(f"a value of shape {list(shape)}, expected (batch, channels, height, width)")
    return shape[0], shape[1], shape[2], shape[3]
