"""Sequences of tensors, as exporters write chunks and splits: carried out while a model is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unfoldc.kernels.expansions import Call, Maker
from unfoldc.kernels.expansions.pieces import squeezed, stacked
from unfoldc.kernels.expansions.splits import window
from unfoldc.kernels.expansions.table import axis_of

SEQUENCE_OPERATORS = (
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
)
Parts = tuple[str, ...]


def carry_out(maker: Maker, call: Call, sequences: Sequence[Parts | None]) -> Parts | str:
    """The result of a node: the members of a sequence, or one value. `sequences` are those of its inputs.

    Raises ValueError for a position or length that is computed at run time or does not exist.
    """
    match call.operator:
        case "SplitToSequence":
            return _split(maker, call)
        case "SequenceConstruct":
            return call.inputs
        case "SequenceEmpty":
            return ()
        case "SequenceInsert":
            members = _members(sequences)
            at = _position(maker, call.input(2), len(members) + 1) if call.input(2) else len(members)
            return (*members[:at], call.inputs[1], *members[at:])
        case "SequenceAt":
            members = _members(sequences)
            return members[_position(maker, call.inputs[1], len(members))]
        case "SequenceLength":
            return maker.tensor(np.array(len(_members(sequences)), np.int64))
        case _:
            return _joined(maker, call, _members(sequences))


def _members(sequences: Sequence[Parts | None]) -> Parts:
    if not sequences or sequences[0] is None:
        raise ValueError("input 0 is no sequence")
    return sequences[0]


def _position(maker: Maker, name: str, length: int) -> int:
    value = maker.constant(name)
    if value is None or value.size != 1:
        raise ValueError(f"the position {name!r} must be a constant")
    if not -length <= value.item() < length:
        raise ValueError(f"position {value.item()} of {length}")
    return int(value.item()) % length


def _split(maker: Maker, call: Call) -> Parts:
    x = call.inputs[0]
    shape = maker.type(x).shape
    axis = axis_of(call, len(shape), 0)
    sizes: Any = maker.constant(call.input(1)) if call.input(1) else np.array(1)
    if sizes is None:
        raise ValueError("the lengths of the parts must be constants")
    if sizes.ndim == 0:
        size = int(sizes)
        if size < 1:
            raise ValueError(f"parts of {size} elements")
        lengths = [min(size, shape[axis] - start) for start in range(0, shape[axis], size)]
    else:
        lengths = [int(n) for n in sizes]
    if sum(lengths) != shape[axis] or min(lengths, default=0) < 1:
        raise ValueError(f"{shape[axis]} elements cannot be split into {lengths}")
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    parts = [window(maker, x, {axis: (start, n)}) for start, n in zip(starts, lengths, strict=True)]
    if not call.input(1) and not call.attributes.get("keepdims", 1):
        parts = [squeezed(maker, part, [axis]) for part in parts]
    return tuple(parts)


def _joined(maker: Maker, call: Call, members: Parts) -> str:
    if not members:
        raise ValueError("an empty sequence cannot be joined")
    axis = int(call.attributes["axis"])
    return (
        stacked(maker, members, axis)
        if call.attributes.get("new_axis", 0)
        else maker.node("Concat", *members, axis=axis)
    )
