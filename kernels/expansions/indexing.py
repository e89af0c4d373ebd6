"""Reading elements at given places: GatherElements, GatherND, Compress, NonZero, ReverseSequence and Tile.

Places that are known when the model is read are tables; one that is the same for all problems of a batch exists once.
Places computed from data that lead outside are taken to the nearest end, as Gather does.
"""

from __future__ import annotations

import math

import numpy as np

from unfoldc.kernels.expansions.pieces import integers, reshaped, scalar
from unfoldc.kernels.expansions.splits import given, window
from unfoldc.kernels.expansions.table import Call, Maker, axis_of, expands


def from_front(indices: np.ndarray, n: int) -> np.ndarray:
    """Indices from 0 to n - 1 instead of from -n; raises ValueError for one that is outside."""
    if indices.size and not (-n <= indices.min() and indices.max() < n):
        raise ValueError(f"indices from {indices.min()} to {indices.max()} on an axis of {n}")
    return np.asarray(np.where(indices < 0, indices + n, indices), np.int64)


def collapsed(indices: np.ndarray, axis: int) -> np.ndarray:
    """The table with length 1 along each other axis on which it does not depend."""
    for other in range(indices.ndim):
        first = indices.take([0], other)
        if other != axis and (indices == first).all():
            indices = first
    return indices


@expands("GatherElements")
def gather_elements(maker: Maker, call: Call) -> tuple[str, ...]:
    """`y[i, j] = x[i, indices[i, j]]` along the axis, indices having as many axes as x."""
    x, indices = call.inputs[0], call.inputs[1]
    shape, wanted = maker.type(x).shape, maker.type(indices).shape
    axis = axis_of(call, len(shape), 0)
    others = [a for a in range(len(shape)) if a != axis]
    if len(wanted) != len(shape) or any(wanted[a] > shape[a] for a in others):
        raise ValueError(f"indices of shape {list(wanted)} into {list(shape)}")
    part = window(maker, x, {a: (0, wanted[a]) for a in others})
    known = maker.constant(indices)
    if known is None or not known.size:
        return (maker.node("Pick", part, indices, axis=axis),)
    table = collapsed(from_front(known, shape[axis]), axis)
    return (maker.node("Pick", part, maker.tensor(table), axis=axis),)


def linear(maker: Maker, indices: str, sizes: tuple[int, ...]) -> str:
    """Rows of indices, one per axis of `sizes`, as positions in the row-major order of these axes."""
    rows = maker.type(indices).shape[:-1]
    known = maker.constant(indices)
    if known is not None:
        place = np.zeros(rows, np.int64)
        for i, n in enumerate(sizes):
            place = place * n + from_front(known[..., i], n)
        return maker.tensor(place)
    result = ""
    for i, n in enumerate(sizes):
        column = reshaped(maker, window(maker, indices, {len(rows): (i, 1)}), rows)
        if len(sizes) == 1:
            return column
        zero, size, last = (scalar(maker, value, indices) for value in (0, n, n - 1))
        wrapped = maker.node("Where", maker.node("Less", column, zero), maker.node("Add", column, size), column)
        # Kept on its own axis: what leads outside must not come out in another row.
        column = maker.node("Min", maker.node("Max", wrapped, zero), last)
        result = maker.node("Add", maker.node("Mul", result, size), column) if result else column
    return result


@expands("GatherND")
def gather_nd(maker: Maker, call: Call) -> tuple[str, ...]:
    """`y[.., i, ..] = x[.., *indices[.., i], ..]` behind `batch_dims` axes that both have."""
    x, indices = call.inputs[0], call.inputs[1]
    shape, wanted = maker.type(x).shape, maker.type(indices).shape
    b = int(call.attributes.get("batch_dims", 0))
    depth = wanted[-1] if wanted else 0
    if not (0 <= b < len(wanted) and 1 <= depth <= len(shape) - b and wanted[:b] == shape[:b]):
        raise ValueError(f"indices of shape {list(wanted)} into {list(shape)} behind {b} axes")
    front, indexed, rest = shape[:b], shape[b : b + depth], shape[b + depth :]
    flat = reshaped(maker, x, (*front, math.prod(indexed), *rest))
    place = linear(maker, indices, indexed)
    if b == 0:
        return (maker.node("Gather", flat, place, axis=0),)
    middle = wanted[b:-1]
    place = reshaped(maker, place, (*front, math.prod(middle), *[1] * len(rest)))
    return (reshaped(maker, maker.node("Pick", flat, place, axis=b), (*front, *middle, *rest)),)


@expands("Compress")
def compress(maker: Maker, call: Call) -> tuple[str, ...]:
    """The slices along the axis (the elements, without one) where the condition, a constant, holds."""
    x, condition = call.inputs[0], np.ravel(given(maker, call, 1))
    axis = 0
    if "axis" in call.attributes:
        axis = axis_of(call, len(maker.type(x).shape), 0)
    else:
        x = reshaped(maker, x, (maker.type(x).size,))
    return (maker.node("Gather", x, maker.tensor(np.flatnonzero(condition)), axis=axis),)


@expands("NonZero")
def nonzero(maker: Maker, call: Call) -> tuple[str, ...]:
    """Where a constant is not 0: how many places there are would else depend on the data."""
    return (maker.tensor(np.array(np.nonzero(np.atleast_1d(given(maker, call, 0))), np.int64)),)


@expands("ReverseSequence")
def reverse_sequence(maker: Maker, call: Call) -> tuple[str, ...]:
    """The first `lengths[i]` elements along the time axis in reverse order, for each i along the batch axis."""
    x, lengths = call.inputs[0], call.inputs[1]
    shape = maker.type(x).shape
    time, batch = axis_of(call, len(shape), 0, "time_axis"), axis_of(call, len(shape), 1, "batch_axis")
    if time == batch or maker.type(lengths).shape != (shape[batch],):
        raise ValueError(f"lengths of shape {list(maker.type(lengths).shape)} for axis {batch} of {list(shape)}")
    steps = np.arange(shape[time]).reshape([shape[time] if a == time else 1 for a in range(len(shape))])
    position = maker.tensor(steps)
    length = reshaped(maker, lengths, tuple(n if a == batch else 1 for a, n in enumerate(shape)))
    mirrored = maker.node("Sub", maker.node("Sub", length, scalar(maker, 1, lengths)), position)
    place = maker.node("Where", maker.node("Less", position, length), mirrored, position)
    return (maker.node("Pick", x, place, axis=time),)


@expands("Tile")
def tile(maker: Maker, call: Call) -> tuple[str, ...]:
    """The value repeated along each axis."""
    x, repeats = call.inputs[0], [int(r) for r in np.ravel(given(maker, call, 1))]
    shape = maker.type(x).shape
    if len(repeats) != len(shape) or min(repeats, default=1) < 0:
        raise ValueError(f"repeats {repeats} of a value of shape {list(shape)}")
    single: list[int] = []
    several: list[int] = []
    for n, r in zip(shape, repeats, strict=True):
        # One element is spread, also where r is 1 for a single problem: the structure must not depend on their number.
        single += [1, n] if r != 1 and n != 1 else [n]
        several += [r, n] if r != 1 and n != 1 else [n * r]
    repeated = reshaped(maker, x, tuple(single))
    if several != single or 1 in shape:
        repeated = maker.node("Expand", repeated, integers(maker, several))
    return (reshaped(maker, repeated, tuple(n * r for n, r in zip(shape, repeats, strict=True))),)
