"""Elements at places that a table, the data or the iteration names: reading (Pick) and writing (Place, Put).

Axes other than the one at hand are broadcast between the operands, so that a table that is the same for all problems
of a batch exists once. Indices may count from the end; those from data that lead outside are taken to the nearest end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Const, Expr, Let, Local
from unfoldc.kernels.operators.sequences import loops
from unfoldc.kernels.operators.table import (
    Arrays,
    Index,
    Lowering,
    Operator,
    array,
    broadcast_index,
    given,
    optional,
    register,
)
from unfoldc.kernels.operators.views import chosen_index
from unfoldc.kernels.program import Node, TensorType

_COMBINE: Mapping[str, Callable[[Any, Any], Any]] = {
    "none": lambda a, b: b,
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _combined(reduction: str, old: Expr, new: Expr) -> Expr:
    return new if reduction == "none" else build.binary(reduction, old, new)


def _other(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _with(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    return (*shape[:axis], n, *shape[axis + 1 :])


def _check_indices(known: np.ndarray | None, n: int) -> None:
    if known is not None and known.size and not (-n <= known.min() and known.max() < n):
        raise ValueError(f"indices from {known.min()} to {known.max()} on an axis of {n}")


def _inside(indices: np.ndarray, n: int) -> np.ndarray:
    return np.clip(np.where(indices < 0, indices + n, indices), 0, n - 1)


# -- Pick: y[.., i, ..] = x[.., indices[.., i, ..], ..] ------------------------------------------------------------


def _pick(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    x, indices, axis = array(v, 0), array(v, 1), attributes["axis"]
    others = np.broadcast_shapes(_other(x.shape, axis), _other(indices.shape, axis))
    shape = _with((*others[:axis], 0, *others[axis:]), axis, indices.shape[axis])
    chosen = np.broadcast_to(_inside(indices, x.shape[axis]), shape)
    return (np.take_along_axis(np.broadcast_to(x, _with(shape, axis, x.shape[axis])), chosen, axis),)


def _pick_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    x, indices, axis = given(types, 0), given(types, 1), attributes["axis"]
    _check_indices(optional(constants, 1), x.shape[axis])
    others = np.broadcast_shapes(_other(x.shape, axis), _other(indices.shape, axis))
    return (TensorType(x.dtype, (*others[:axis], indices.shape[axis], *others[axis:])),)


def _pick_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    axis = node.attributes["axis"]
    shape, table = (lowering.type(name).shape for name in node.inputs)
    chosen = chosen_index(lowering, node.inputs[1], broadcast_index(at, table), shape[axis])
    place = list(broadcast_index(at, shape))
    place[axis] = chosen
    return lowering.element(node.inputs[0], tuple(place))


# -- Place: y = x, but the places along the axis get (or are combined with) the updates ----------------------------
# `places` lists them, and the last one wins; with a stride it holds the first one, the others follow evenly.


def _place(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    result, updates, axis = np.array(array(v, 0)), array(v, 1), attributes["axis"]
    combine, m = _COMBINE[attributes["reduction"]], updates.shape[axis]
    places = array(v, 2) + attributes["stride"] * np.arange(m) if attributes["stride"] else array(v, 2)
    for j, place in enumerate(places.tolist()):
        where = (*[slice(None)] * axis, slice(place, place + 1))
        result[where] = combine(result[where], updates.take([j], axis))
    return (result,)


def _place_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    return (_same_as_first(types, (1,), attributes["axis"]),)


def _same_as_first(types: Sequence[TensorType | None], others: Sequence[int], axis: int) -> TensorType:
    x = given(types, 0)
    for i in others:
        shape = given(types, i).shape
        if len(shape) != len(x.shape) or np.broadcast_shapes(_other(x.shape, axis), _other(shape, axis)) != _other(
            x.shape, axis
        ):
            raise ValueError(f"{list(shape)} against {list(x.shape)}")
    return x


def _place_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    x, updates, places = node.inputs
    axis, stride, how = node.attributes["axis"], node.attributes["stride"], node.attributes["reduction"]
    shape = lowering.type(updates).shape

    def place(j: int) -> Expr:
        found = build.cast(lowering.element(places, (build.index(j),)), "int32")
        return build.index(int(found.value)) if isinstance(found, Const) else found

    def update(number: Expr) -> Expr:
        where = list(broadcast_index(at, shape))
        where[axis] = number
        return lowering.element(updates, tuple(where))

    old = lowering.element(x, at)
    if not stride:
        for j in range(shape[axis]):
            hit = build.binary("eq", at[axis], place(j))
            name = lowering.fresh("v")
            lowering.emit(Let(name, build.select(hit, _combined(how, old, update(build.index(j))), old)))
            old = Local(name, old.dtype)
        return old
    # Both sides of a select may be evaluated, so the number of the update is kept inside.
    moved, last = build.sub(at[axis], place(0)), build.index(stride * (shape[axis] - 1))
    number = build.binary("min", build.binary("max", moved, build.ZERO), last)
    number = build.binary("floordiv", number, build.index(stride))
    hit = build.binary("eq", build.mul(number, build.index(stride)), moved)
    return build.select(hit, _combined(how, old, update(number)), old)


# -- Put: the same with places that are known at run time only ------------------------------------------------------


def _put(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    result, axis = np.array(array(v, 0)), attributes["axis"]
    combine = _COMBINE[attributes["reduction"]]
    indices = _inside(array(v, 1), result.shape[axis])
    shape = _with(result.shape, axis, indices.shape[axis])
    indices, updates = np.broadcast_to(indices, shape), np.broadcast_to(array(v, 2), shape)
    for j in range(indices.shape[axis]):
        here = indices.take([j], axis)
        old = np.take_along_axis(result, here, axis)
        np.put_along_axis(result, here, combine(old, updates.take([j], axis)), axis)
    return (result,)


def _put_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    axis = attributes["axis"]
    if given(types, 1).shape[axis] != given(types, 2).shape[axis]:
        raise ValueError(f"{given(types, 1).shape[axis]} indices for {given(types, 2).shape[axis]} updates")
    x = _same_as_first(types, (1, 2), axis)
    _check_indices(optional(constants, 1), x.shape[axis])
    return (x,)


def _put_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    """Every update is looked at for every element: which ones meet is known at run time only."""
    x, indices, updates = node.inputs
    axis, t = node.attributes["axis"], lowering.type(x)
    table, shape = lowering.type(indices).shape, lowering.type(updates).shape
    name = lowering.fresh("acc")
    lowering.emit(Let(name, lowering.element(x, at), mutable=True))
    old = Local(name, t.dtype)

    def update(j: Index) -> None:
        here = (*at[:axis], j[0], *at[axis + 1 :])
        hit = build.binary("eq", chosen_index(lowering, indices, broadcast_index(here, table), t.shape[axis]), at[axis])
        new = lowering.element(updates, broadcast_index(here, shape))
        lowering.emit(Assign(name, build.select(hit, _combined(node.attributes["reduction"], old, new), old)))

    loops(lowering, (shape[axis],), update)
    return old


def _put_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    return output.size * max(n for n in inputs[1].shape)


register(Operator("Pick", "view", _pick, _pick_element, infer=_pick_infer))
register(Operator("Place", "pointwise", _place, _place_element, lambda i, o: i[1].size, _place_infer))
register(Operator("Put", "reduction", _put, _put_element, _put_flops, _put_infer))
