"""OneHot and EyeLike: ones at given places."""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.element_types import ELEMENT_TYPES
from unfoldc.kernels.expansions.pieces import reshaped, scalar, unsqueezed
from unfoldc.kernels.expansions.splits import given, window
from unfoldc.kernels.expansions.table import Call, Maker, expands

_MOST = 2**24


@expands("OneHot")
def one_hot(maker: Maker, call: Call) -> tuple[str, ...]:
    """values[1] at the index along a new axis of length depth, else values[0]; nothing at an index outside."""
    indices, values = call.inputs[0], call.inputs[2]
    t, depth = maker.type(indices), int(given(maker, call, 1).item())
    rank = len(t.shape) + 1
    axis = int(call.attributes.get("axis", -1))
    if not -rank <= axis < rank or not 1 <= depth <= _MOST or maker.type(values).shape != (2,):
        raise ValueError(f"axis {axis}, depth {depth}, values of shape {list(maker.type(values).shape)}")
    axis %= rank
    places = np.arange(depth, dtype=t.dtype).reshape([depth if a == axis else 1 for a in range(rank)])
    from_end = maker.node("Less", indices, scalar(maker, 0, indices))
    wrapped = maker.node("Add", indices, scalar(maker, depth, indices))
    place = unsqueezed(maker, maker.node("Where", from_end, wrapped, indices), [axis])
    off, on = (reshaped(maker, window(maker, values, {0: (i, 1)}), []) for i in (0, 1))
    return (maker.node("Where", maker.node("Equal", place, maker.tensor(places)), on, off),)


@expands("EyeLike")
def eye_like(maker: Maker, call: Call) -> tuple[str, ...]:
    """Ones on diagonal k of a matrix as large as the input, in its type or in `dtype`."""
    t = maker.type(call.inputs[0])
    if len(t.shape) != 2 or t.size > _MOST:
        raise ValueError(f"a matrix is needed, not shape {list(t.shape)}")
    number = call.attributes.get("dtype")
    if number is not None and number not in ELEMENT_TYPES:
        raise ValueError(f"element type {number}")
    dtype = t.dtype if number is None else ELEMENT_TYPES[number]
    return (maker.tensor(np.eye(*t.shape, k=int(call.attributes.get("k", 0)), dtype=dtype)),)
