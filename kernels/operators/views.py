"""Views: operators that move or repeat elements. They cost nothing: a reader follows the index to the source."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Const, Expr
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
from unfoldc.kernels.program import Node, TensorType

Source = Callable[[Lowering, Node, Index], Index]
Infer = Callable[[Mapping[str, Any], Sequence[TensorType | None], Arrays], tuple[TensorType, ...]]


def _view(
    name: str,
    numpy_form: Callable[[Mapping[str, Any], Arrays], np.ndarray],
    source: Source,
    constant_inputs: tuple[int, ...] = (),
    infer: Infer | None = None,
) -> None:
    def element(lowering: Lowering, node: Node, at: Index) -> Expr:
        return lowering.element(node.inputs[0], source(lowering, node, at))

    register(
        Operator(name, "view", lambda a, v: (numpy_form(a, v),), element, infer=infer, constant_inputs=constant_inputs)
    )


def reshaped_index(at: Index, old: tuple[int, ...], new: tuple[int, ...]) -> Index:
    """The index into `old` of the element that a row-major reshape shows at `at` in `new`.

    Axes are grouped where products agree, so that merging or splitting axes stays affine where it can.
    """
    # Axes of length 1 carry no information; without them the groups below are as small as they can be.
    wide_old = [n for n in old if n != 1]
    wide = [(index, n) for index, n in zip(at, new, strict=True) if n != 1]
    found: list[Expr] = []
    i = j = 0
    while i < len(wide_old) and j < len(wide):
        first_old, first_new = i, j
        a, b = wide_old[i], wide[j][1]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * wide_old[i], i + 1
            else:
                b, j = b * wide[j][1], j + 1
        found += _regroup(wide[first_new:j], wide_old[first_old:i])
    rest = iter(found)
    return tuple(build.ZERO if n == 1 else next(rest) for n in old)


def _regroup(new: list[tuple[Expr, int]], old: list[int]) -> list[Expr]:
    flat: Expr = build.ZERO
    for at, n in new:
        flat = build.add(build.mul(flat, build.index(n)), at)
    result: list[Expr] = []
    stride = math.prod(old)
    for position, n in enumerate(old):
        stride //= n
        digit = build.binary("floordiv", flat, build.index(stride))
        result.append(digit if position == 0 else build.binary("mod", digit, build.index(n)))
    return result


def _reshape_target(attributes: Mapping[str, Any], old: tuple[int, ...], wanted: np.ndarray) -> tuple[int, ...]:
    """The new shape with 0 (keep) and -1 (what is left) resolved; raises ValueError where it does not fit."""
    target = [int(d) for d in np.ravel(wanted)]
    if not attributes.get("allowzero", 0):
        target = [old[i] if d == 0 else d for i, d in enumerate(target)]
    known = math.prod(d for d in target if d != -1)
    if target.count(-1) == 1 and known > 0:
        target[target.index(-1)] = math.prod(old) // known
    if any(d < 0 for d in target) or math.prod(target) != math.prod(old):
        raise ValueError(f"{list(old)} cannot be reshaped to {[int(d) for d in np.ravel(wanted)]}")
    return tuple(target)


def _reshape(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    x = array(v, 0)
    return x.reshape(_reshape_target(attributes, x.shape, array(v, 1)))


def _reshape_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    t = given(types, 0)
    return (TensorType(t.dtype, _reshape_target(attributes, t.shape, array(constants, 1))),)


def _reshape_source(lowering: Lowering, node: Node, at: Index) -> Index:
    return reshaped_index(at, lowering.type(node.inputs[0]).shape, lowering.type(node.outputs[0]).shape)


def _squeeze(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    given = optional(v, 1)
    return np.squeeze(array(v, 0), None if given is None else tuple(int(a) for a in np.ravel(given)))


def _unsqueeze(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    return np.expand_dims(array(v, 0), tuple(int(a) for a in np.ravel(array(v, 1))))


def _flat_shape(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    axis = attributes.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"axis {axis} of a value with {len(shape)} axes")
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _flatten(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    return array(v, 0).reshape(_flat_shape(attributes, array(v, 0).shape))


def _flatten_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    t = given(types, 0)
    return (TensorType(t.dtype, _flat_shape(attributes, t.shape)),)


def _transpose_permutation(attributes: Mapping[str, Any], rank: int) -> list[int]:
    return list(attributes.get("perm") or reversed(range(rank)))


def _transpose_source(lowering: Lowering, node: Node, at: Index) -> Index:
    permutation = _transpose_permutation(node.attributes, len(at))
    place: list[Expr] = [build.ZERO] * len(at)
    for here, there in enumerate(permutation):
        place[there] = at[here]
    return tuple(place)


def _expand(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    x = array(v, 0)
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in np.ravel(array(v, 1)))))


def _expand_source(lowering: Lowering, node: Node, at: Index) -> Index:
    return broadcast_index(at, lowering.type(node.inputs[0]).shape)


def _window_index(attributes: Mapping[str, Any], starts: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    result = [slice(None)] * len(shape)
    for axis, start, size, stride in zip(
        attributes["axes"], starts.tolist(), attributes["sizes"], attributes["strides"], strict=True
    ):
        stop = start + size * stride
        result[axis] = slice(start, None if stop < 0 else stop, stride)
    return tuple(result)


def _window_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    t, sizes = given(types, 0), dict(zip(attributes["axes"], attributes["sizes"], strict=True))
    return (TensorType(t.dtype, tuple(sizes.get(axis, n) for axis, n in enumerate(t.shape))),)


def _window_source(lowering: Lowering, node: Node, at: Index) -> Index:
    """`at` moved by the starts, which may differ between iterations but never leave the value."""
    place = list(at)
    for position, (axis, stride) in enumerate(zip(node.attributes["axes"], node.attributes["strides"], strict=True)):
        start = build.cast(lowering.element(node.inputs[1], (build.index(position),)), "int32")
        if isinstance(start, Const):
            start = build.index(int(start.value))
        place[axis] = build.add(build.mul(at[axis], build.index(stride)), start)
    return tuple(place)


def _gather(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    x, indices, axis = array(v, 0), array(v, 1), attributes.get("axis", 0)
    n = x.shape[axis]
    return np.asarray(np.take(x, np.where(indices < 0, indices + n, indices), axis=axis, mode="clip"))


def _gather_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    x, indices, axis = given(types, 0), given(types, 1), attributes.get("axis", 0)
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a value with {rank} axes")
    axis %= rank
    known, n = optional(constants, 1), x.shape[axis]
    if known is not None and known.size and not (-n <= known.min() and known.max() < n):
        raise ValueError(f"indices from {known.min()} to {known.max()} on an axis of {n}")
    return (TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


def _gather_source(lowering: Lowering, node: Node, at: Index) -> Index:
    shape, indices = lowering.type(node.inputs[0]).shape, lowering.type(node.inputs[1]).shape
    axis = node.attributes.get("axis", 0) % len(shape)
    chosen = chosen_index(lowering, node.inputs[1], at[axis : axis + len(indices)], shape[axis])
    return (*at[:axis], chosen, *at[axis + len(indices) :])


def chosen_index(lowering: Lowering, indices: str, at: Index, n: int) -> Expr:
    """The entry of `indices` as an index into an axis of n elements."""
    known = lowering.constant(indices)
    if known is not None and known.size == 1:
        return build.index(int(known.item()) % n)
    raw = lowering.element(indices, at)
    bounds = lowering.bounds(indices)
    if bounds is not None and bounds[1] < 0:  # all counted from the end
        return build.add(build.cast(raw, "int32"), build.index(n))
    if bounds is None or bounds[0] < 0:
        zero = build.literal(0, raw.dtype)
        raw = build.select(build.binary("lt", raw, zero), build.add(raw, build.literal(n, raw.dtype)), raw)
        # An index computed from data must not leave the array: it is taken to the nearest end.
        raw = build.binary("min", build.binary("max", raw, zero), build.literal(n - 1, raw.dtype))
    return build.cast(raw, "int32")


def _identity_source(lowering: Lowering, node: Node, at: Index) -> Index:
    return at


_view("Identity", lambda _, v: array(v, 0), _identity_source)
_view("Reshape", _reshape, _reshape_source, (1,), _reshape_infer)
_view("Flatten", _flatten, _reshape_source, infer=_flatten_infer)
_view("Squeeze", _squeeze, _reshape_source, (1,))
_view("Unsqueeze", _unsqueeze, _reshape_source, (1,))
_view(
    "Transpose",
    lambda a, v: np.transpose(array(v, 0), _transpose_permutation(a, array(v, 0).ndim)),
    _transpose_source,
)
_view("Expand", _expand, _expand_source, (1,))
_view(
    "Window",
    lambda a, v: array(v, 0)[_window_index(a, array(v, 1), array(v, 0).shape)],
    _window_source,
    infer=_window_infer,
)
_view("Gather", _gather, _gather_source, infer=_gather_infer)
