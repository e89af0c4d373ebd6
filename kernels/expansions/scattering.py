"""Writing elements at given places: ScatterElements and ScatterND. Where several updates meet, the last one wins.

Each element of the result asks which updates it gets. Evenly spaced places (a slice) are found by arithmetic, other
known ones in a table turned around: one look per element, whatever the number of updates. A few known places are
compared one by one, as are those that come from data.
"""

from __future__ import annotations

import math

import numpy as np

from unfoldc.kernels.expansions.indexing import collapsed, from_front, linear
from unfoldc.kernels.expansions.pieces import integers, reshaped
from unfoldc.kernels.expansions.splits import window
from unfoldc.kernels.expansions.table import Call, Maker, axis_of, expands

_COMBINE = {"add": "Add", "mul": "Mul", "min": "Min", "max": "Max"}
_REDUCE = {"add": "ReduceSum", "mul": "ReduceProd", "min": "ReduceMin", "max": "ReduceMax"}
# So many places are listed, and so many updates that meet combined one by one.
_MOST_IN_A_ROW = 4


@expands("ScatterElements")
def scatter_elements(maker: Maker, call: Call) -> tuple[str, ...]:
    """`y = x`, but `y[i, indices[i, j]]` gets `updates[i, j]`, along the axis."""
    x, indices, updates = call.inputs[:3]
    shape, wanted = maker.type(x).shape, maker.type(indices).shape
    axis = axis_of(call, len(shape), 0)
    others = [a for a in range(len(shape)) if a != axis]
    fits = len(wanted) == len(shape) and all(wanted[a] <= shape[a] for a in others)
    if not fits or maker.type(updates).shape != wanted:
        found = f"updates of shape {list(maker.type(updates).shape)} at indices of shape {list(wanted)}"
        raise ValueError(f"{found} in {list(shape)}")
    # Rows beyond the indices stay as they are.
    result = scattered(maker, window(maker, x, {a: (0, wanted[a]) for a in others}), indices, updates, axis, _how(call))
    kept = list(wanted)
    kept[axis] = shape[axis]
    for a in others:
        if wanted[a] < shape[a]:
            tail = window(maker, x, {b: (0, kept[b]) if b != a else (wanted[a], shape[a] - wanted[a]) for b in others})
            result = maker.node("Concat", result, tail, axis=a)
            kept[a] = shape[a]
    return (result,)


@expands("ScatterND")
def scatter_nd(maker: Maker, call: Call) -> tuple[str, ...]:
    """`y = x`, but `y[*indices[i], ..]` gets `updates[i, ..]`."""
    x, indices, updates = call.inputs[:3]
    shape, wanted = maker.type(x).shape, maker.type(indices).shape
    depth = wanted[-1] if wanted else 0
    if not 1 <= depth <= len(shape) or maker.type(updates).shape != (*wanted[:-1], *shape[depth:]):
        found = f"updates of shape {list(maker.type(updates).shape)} at indices of shape {list(wanted)}"
        raise ValueError(f"{found} in {list(shape)}")
    n, rest = math.prod(wanted[:-1]), shape[depth:]
    place = reshaped(maker, linear(maker, indices, shape[:depth]), (n, *[1] * len(rest)))
    flat = reshaped(maker, x, (math.prod(shape[:depth]), *rest))
    result = scattered(maker, flat, place, reshaped(maker, updates, (n, *rest)), 0, _how(call))
    return (reshaped(maker, result, shape),)


def _how(call: Call) -> str:
    how = call.attributes.get("reduction", "none")
    how = how.decode() if isinstance(how, bytes) else str(how)
    if how != "none" and how not in _COMBINE:
        raise ValueError(f"the reduction {how!r}")
    return how


def scattered(maker: Maker, x: str, indices: str, updates: str, axis: int, how: str) -> str:
    """`x` with the updates at the indices; along the other axes all three are equally long, indices may be 1 there."""
    known, n = maker.constant(indices), maker.type(x).shape[axis]
    if known is None or not known.size:
        return maker.node("Put", x, indices, updates, axis=axis, reduction=how)
    table = collapsed(from_front(known, n), axis)
    if table.size == table.shape[axis]:
        stride = _stride(np.ravel(table))
        if stride is not None:
            places = integers(maker, np.ravel(table)[: 1 if stride else None].tolist())
            return maker.node("Place", x, updates, places, axis=axis, stride=stride, reduction=how)
    inverse = turned_around(table, axis, n, last=how == "none")
    if inverse.shape[-1] <= _MOST_IN_A_ROW:
        result = x
        for layer in np.moveaxis(inverse, -1, 0):
            there, new = _looked_up(maker, updates, layer, axis)
            if how != "none":
                new = maker.node(_COMBINE[how], result, new)
            result = maker.node("Where", there, new, result)
        return result
    return _in_a_loop(maker, x, updates, inverse, axis, how)


def _stride(places: np.ndarray) -> int | None:
    """The distance of evenly spaced places, 0 for so few that they are listed, None for a table.

    Places that vary from iteration to iteration should get one form: few ones may be evenly spaced by accident.
    """
    if len(places) <= _MOST_IN_A_ROW:
        return 0
    steps = np.diff(places)
    return int(steps[0]) if steps[0] > 0 and (steps == steps[0]).all() else None


def turned_around(table: np.ndarray, axis: int, n: int, last: bool) -> np.ndarray:
    """For each place along the axis of length n the updates that go there, in order along a new last axis; -1: none.

    With `last` only the last update of each place.
    """
    lines = np.moveaxis(table, axis, -1)
    m = lines.shape[-1]
    place = np.ravel(lines + n * np.arange(lines.size // m).reshape(*lines.shape[:-1], 1))
    update = np.tile(np.arange(m), lines.size // m)
    order = np.argsort(place, kind="stable")
    sorted_places = place[order]
    slot = np.arange(len(order)) - np.searchsorted(sorted_places, sorted_places)
    depth = int(slot.max()) + 1
    inverse = np.full((lines.size // m * n, depth), -1, np.int64)
    inverse[sorted_places, slot] = update[order]
    if last:
        inverse = inverse.max(axis=1, keepdims=True)
    return np.moveaxis(inverse.reshape(*lines.shape[:-1], n, inverse.shape[-1]), -2, axis)


def _looked_up(maker: Maker, updates: str, inverse: np.ndarray, axis: int) -> tuple[str, str]:
    """Where an update goes, and which (anything elsewhere)."""
    picked = maker.node("Pick", updates, maker.tensor(np.maximum(inverse, 0)), axis=axis)
    return maker.tensor(inverse >= 0), picked


def _in_a_loop(maker: Maker, x: str, updates: str, inverse: np.ndarray, axis: int, how: str) -> str:
    n, depth, dtype = inverse.shape[axis], inverse.shape[-1], maker.type(x).dtype
    wide = np.moveaxis(inverse, -1, axis + 1)
    flat = wide.reshape(*wide.shape[:axis], n * depth, *wide.shape[axis + 2 :])
    there, picked = _looked_up(maker, updates, flat, axis)
    shape = maker.type(picked).shape
    terms = maker.node("Where", there, picked, maker.tensor(_neutral(how, dtype)))
    terms = reshaped(maker, terms, (*shape[:axis], n, depth, *shape[axis + 1 :]))
    return maker.node(_COMBINE[how], x, maker.node(_REDUCE[how], terms, integers(maker, [axis + 1]), keepdims=0))


def _neutral(how: str, dtype: str) -> np.ndarray:
    """What changes nothing."""
    if how in ("add", "mul"):
        return np.asarray(how == "mul", dtype)
    if np.dtype(dtype).kind == "f":
        return np.asarray(np.inf if how == "min" else -np.inf, dtype)
    return np.asarray(np.iinfo(dtype).max if how == "min" else np.iinfo(dtype).min, dtype)
