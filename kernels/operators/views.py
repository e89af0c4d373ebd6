"""Views: operators that move or repeat elements. They cost nothing: a reader follows the index to the source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    optional,
    register,
)
from unfoldc.kernels.program import Node

Source = Callable[[Lowering, Node, Index], Index]


def _view(
    name: str,
    numpy_form: Callable[[Mapping[str, Any], Arrays], np.ndarray],
    source: Source,
    constant_inputs: tuple[int, ...] = (),
) -> None:
    def element(lowering: Lowering, node: Node, at: Index) -> Expr:
        return lowering.element(node.inputs[0], source(lowering, node, at))

    register(
        Operator(name, "view", lambda a, v: (numpy_form(a, v),), element, constant_inputs=constant_inputs)
    )  # fmt: skip


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
    stride = int(np.prod(old))
    for position, n in enumerate(old):
        stride //= n
        digit = build.binary("floordiv", flat, build.index(stride))
        result.append(digit if position == 0 else build.binary("mod", digit, build.index(n)))
    return result


def _reshape_target(attributes: Mapping[str, Any], v: Arrays) -> list[int]:
    x = array(v, 0)
    wanted = [int(d) for d in np.ravel(array(v, 1))]
    if not attributes.get("allowzero", 0):
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return wanted


def _reshape_source(lowering: Lowering, node: Node, at: Index) -> Index:
    return reshaped_index(at, lowering.type(node.inputs[0]).shape, lowering.type(node.outputs[0]).shape)


def _squeeze(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    given = optional(v, 1)
    return np.squeeze(array(v, 0), None if given is None else tuple(int(a) for a in np.ravel(given)))


def _unsqueeze(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    return np.expand_dims(array(v, 0), tuple(int(a) for a in np.ravel(array(v, 1))))


def _flatten(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    x = array(v, 0)
    axis = attributes.get("axis", 1)
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(rows, -1)


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


def _slices(v: Arrays) -> list[slice]:
    """One slice per axis, from the inputs starts, ends, axes, steps."""
    x, starts, ends = array(v, 0), np.ravel(array(v, 1)), np.ravel(array(v, 2))
    axes, steps = optional(v, 3), optional(v, 4)
    result = [slice(None)] * x.ndim
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = position if axes is None else int(np.ravel(axes)[position])
        step = 1 if steps is None else int(np.ravel(steps)[position])
        stop = None if step < 0 and int(end) < -x.shape[axis] else int(end)
        result[axis] = slice(int(start), stop, step)
    return result


def _slice_source(lowering: Lowering, node: Node, at: Index) -> Index:
    shape = lowering.type(node.inputs[0]).shape
    values: list[np.ndarray | None] = [np.broadcast_to(np.zeros(()), shape)]
    values += [lowering.constant(name) if name else None for name in node.inputs[1:]]
    place: list[Expr] = []
    for i, (part, n) in enumerate(zip(_slices(values), shape, strict=True)):
        start, _, step = part.indices(n)
        place.append(build.add(build.mul(at[i], build.index(step)), build.index(start)))
    return tuple(place)


def _gather(attributes: Mapping[str, Any], v: Arrays) -> np.ndarray:
    return np.asarray(np.take(array(v, 0), array(v, 1), axis=attributes.get("axis", 0)))


def _gather_source(lowering: Lowering, node: Node, at: Index) -> Index:
    shape, indices = lowering.type(node.inputs[0]).shape, lowering.type(node.inputs[1]).shape
    axis = node.attributes.get("axis", 0) % len(shape)
    inner = at[axis : axis + len(indices)]
    known = lowering.constant(node.inputs[1])
    if known is not None and known.size == 1:
        chosen: Expr = build.index(int(known.reshape(())) % shape[axis])
    else:
        raw = build.cast(lowering.element(node.inputs[1], inner), "int32")
        if isinstance(raw, Const):
            chosen = build.index(int(raw.value) % shape[axis])
        else:
            n = build.index(shape[axis])
            chosen = build.select(build.binary("lt", raw, build.ZERO), build.add(raw, n), raw)
    return (*at[:axis], chosen, *at[axis + len(indices) :])


def _identity_source(lowering: Lowering, node: Node, at: Index) -> Index:
    return at


_view("Identity", lambda _, v: array(v, 0), _identity_source)
_view("Reshape", lambda a, v: array(v, 0).reshape(_reshape_target(a, v)), _reshape_source, (1,))
_view("Flatten", _flatten, _reshape_source)
_view("Squeeze", _squeeze, _reshape_source, (1,))
_view("Unsqueeze", _unsqueeze, _reshape_source, (1,))
_view(
    "Transpose",
    lambda a, v: np.transpose(array(v, 0), _transpose_permutation(a, array(v, 0).ndim)),
    _transpose_source,
)
_view("Expand", _expand, _expand_source, (1,))
_view("Slice", lambda _, v: array(v, 0)[tuple(_slices(v))], _slice_source, (1, 2, 3, 4))
_view("Gather", _gather, _gather_source, (1,))
