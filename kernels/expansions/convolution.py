"""Conv and ConvTranspose by padding and `Correlate`."""

from __future__ import annotations

import math

import numpy as np

from unfoldc.kernels.expansions.geometry import automatic, extents, geometry, pads_of, whole
from unfoldc.kernels.expansions.padding import laid_out, number, spread, surrounded
from unfoldc.kernels.expansions.splits import window
from unfoldc.kernels.expansions.table import Call, Maker, expands


@expands("Conv")
def conv(maker: Maker, call: Call) -> tuple[str, ...]:
    """Cross-correlation with strides, dilations, groups and a bias; x is padded once, in memory."""
    x, w = call.inputs[:2]
    t = maker.type(x)
    g = geometry(call, t.shape[2:], maker.type(w).shape[2:])
    if any((*g.before, *g.needed)):
        x = surrounded(maker, x, (0, 0, *g.before), (0, 0, *g.needed), number(maker, 0, t.dtype))
    inputs = (x, w, call.input(2)) if call.input(2) else (x, w)
    group = int(call.attributes.get("group", 1))
    return (maker.node("Correlate", *inputs, strides=list(g.strides), dilations=list(g.dilations), group=group),)


@expands("ConvTranspose")
def conv_transpose(maker: Maker, call: Call) -> tuple[str, ...]:
    """The adjoint of Conv: y[s i + d k - begin] += x[i] w[k].

    Results whose places have the same remainder by s meet the same weights, so that there is one small correlation for
    each remainder, without products with inserted zeros: s^axes times the channels, which are then interleaved.
    """
    x, w = call.inputs[:2]
    (channels, *sizes), weights = maker.type(x).shape[1:], maker.type(w).shape
    rank, group = len(sizes), int(call.attributes.get("group", 1))
    if rank < 1 or len(weights) != rank + 2 or group < 1 or channels % group or weights[0] != channels:
        raise ValueError(f"weights of shape {weights} in {group} groups for a value of shape {maker.type(x).shape}")
    strides, dilations = whole(call, "strides", rank, 1, 1), whole(call, "dilations", rank, 1, 1)
    begin, out = _place(call, sizes, extents(weights[2:], dilations), strides)
    for i, (s, d) in enumerate(zip(strides, dilations, strict=True)):
        w = spread(maker, w, 2 + i, d if s > 1 else 1)
    dilations = tuple(1 if s > 1 else d for s, d in zip(strides, dilations, strict=True))
    w, taps = _by_remainder(maker, w, strides, group)
    # Of the results s a + r, those from `begin` on are wanted: a runs from `low` to `high`.
    low = [b // s for b, s in zip(begin, strides, strict=True)]
    high = [-(-(b + n) // s) for b, n, s in zip(begin, out, strides, strict=True)]
    reach = [(t - 1) * d for t, d in zip(taps, dilations, strict=True)]
    before = [r - a for r, a in zip(reach, low, strict=True)]
    after = [a - n for a, n in zip(high, sizes, strict=True)]
    x = surrounded(maker, x, (0, 0, *before), (0, 0, *after), number(maker, 0, maker.type(x).dtype))
    plain = math.prod(strides) == 1
    inputs = (x, w, call.input(2)) if plain and call.input(2) else (x, w)
    y = maker.node("Correlate", *inputs, strides=[1] * rank, dilations=list(dilations), group=group)
    if plain:
        return (y,)
    y = interleaved(maker, y, strides)
    y = window(maker, y, {2 + i: (b % s, n) for i, (b, s, n) in enumerate(zip(begin, strides, out, strict=True))})
    if call.input(2):
        shape = maker.tensor(np.array([-1, *[1] * rank], np.int64))
        y = maker.node("Add", y, maker.node("Reshape", call.input(2), shape))
    return (y,)


def _place(
    call: Call, sizes: list[int], spans: list[int], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of all results is the first wanted along each axis, and how many are."""
    rank, way = len(sizes), automatic(call)
    extra = whole(call, "output_padding", rank, 0, 0)
    full = [s * (n - 1) + p + e for n, s, p, e in zip(sizes, strides, extra, spans, strict=True)]
    out = whole(call, "output_shape", rank, 0, 0)
    if not any(out) and way.startswith("SAME"):
        out = tuple(n * s for n, s in zip(sizes, strides, strict=True))
    if any(out):
        cut = [f - o for f, o in zip(full, out, strict=True)]
        begin = tuple(c // 2 if way == "SAME_UPPER" else c - c // 2 for c in cut)
    else:
        begin, after = pads_of(call, rank) if way == "NOTSET" else ((0,) * rank, (0,) * rank)
        out = tuple(f - b - a for f, b, a in zip(full, begin, after, strict=True))
    if min(out) < 1:
        raise ValueError(f"a result of shape {list(out)}")
    return begin, out


def _by_remainder(maker: Maker, w: str, strides: tuple[int, ...], group: int) -> tuple[str, list[int]]:
    """Weights (channels, results / group, ..) as `Correlate` takes them for (results, s .., ..), and their taps."""
    (channels, rows, *sizes), rank = maker.type(w).shape, len(strides)
    taps = [-(-k // s) for k, s in zip(sizes, strides, strict=True)]
    after = [0, 0, *(t * s - k for t, s, k in zip(taps, strides, sizes, strict=True))]
    w = surrounded(maker, w, [0] * len(after), after, number(maker, 0, maker.type(w).dtype))
    pairs = [m for t, s in zip(taps, strides, strict=True) for m in (t, s)]
    shape = [group, channels // group, rows, *pairs]
    w = maker.node("Reshape", w, maker.tensor(np.array(shape, np.int64)))
    w = window(maker, w, {3 + 2 * i: (t - 1, t) for i, t in enumerate(taps)}, {3 + 2 * i: -1 for i in range(rank)})
    order = [0, 2, *(4 + 2 * i for i in range(rank)), 1, *(3 + 2 * i for i in range(rank))]
    w = maker.node("Transpose", w, perm=order)
    flat = [group * rows * math.prod(strides), channels // group, *taps]
    return laid_out(maker, maker.node("Reshape", w, maker.tensor(np.array(flat, np.int64)))), taps


def interleaved(maker: Maker, y: str, strides: tuple[int, ...]) -> str:
    """(batch, results * s .., places ..) as (batch, results, places * s ..): remainders become neighbours."""
    (_, channels, *places), rank = maker.type(y).shape, len(strides)
    rows = channels // math.prod(strides)
    y = maker.node("Reshape", y, maker.tensor(np.array([0, rows, *strides, *places], np.int64)))
    order = [0, 1, *(m for i in range(rank) for m in (2 + rank + i, 2 + i))]
    y = maker.node("Transpose", y, perm=order)
    wide = [n * s for n, s in zip(places, strides, strict=True)]
    return maker.node("Reshape", y, maker.tensor(np.array([0, rows, *wide], np.int64)))
