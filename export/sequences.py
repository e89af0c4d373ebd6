"""Without sequences of tensors: what the exporter splits and then picks from is split, or picked, at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from unfoldc.export.listing import Listing, Op
from unfoldc.export.subgraphs import canonical

_SPLIT, _PICK = "SplitToSequence", "SequenceAt"


def remove_sequences(listing: Listing) -> Listing:
    """SplitToSequence and SequenceAt at constant positions become Split, or Gather where the parts lose their axis.

    What picks at a position that is computed, or splits an axis of unknown length, stays as it is.
    """
    positions = _positions(listing)
    constants = dict(listing.constants)
    ops: list[Op] = []
    cut: list[int] = []
    through: dict[str, str] = {}
    parts: dict[str, Sequence[str]] = {}
    gathered: dict[str, Op] = {}
    for op in listing.ops:
        cut.append(len(ops))
        picks = positions.get(op.outputs[0]) if op.kind == _SPLIT else None
        if picks is not None and not _attribute(op, "keepdims", 1) and len(op.reads) == 1:
            gathered[op.outputs[0]] = op
        elif picks is not None and (lengths := _lengths(listing, op)):
            name = f"{op.outputs[0]}.lengths"
            constants[name] = numpy_helper.from_array(np.array(lengths, np.int64), name)
            parts[op.outputs[0]] = names = _names(op, picks, len(lengths))
            ops.append(_as(op, "Split", (op.reads[0], name), names, axis=_attribute(op, "axis", 0)))
        elif op.kind == _PICK and op.reads[0] in gathered:
            split = gathered[op.reads[0]]
            ops.append(_as(op, "Gather", (split.reads[0], op.reads[1]), op.outputs, axis=_attribute(split, "axis", 0)))
        elif op.kind == _PICK and op.reads[0] in parts:
            part = parts[op.reads[0]][_number(listing, op.reads[1])]
            if part != op.outputs[0]:
                through[op.outputs[0]] = part
        else:
            ops.append(op)
    cut.append(len(ops))
    markers = tuple(replace(m, at=cut[m.at]) for m in listing.markers)
    return replace(listing, ops=tuple(ops), markers=markers, constants=constants).substitute(through)


def _positions(listing: Listing) -> Mapping[str, Mapping[str, int]]:
    """For each sequence that is only picked from, at known positions: what is picked where."""
    found: dict[str, dict[str, int]] = {}
    kept = {v for v in listing.outputs} | {v for m in listing.markers for v in m.before}
    for op in listing.ops:
        if op.kind == _PICK and op.reads[1] in listing.constants:
            found.setdefault(op.reads[0], {})[op.outputs[0]] = _number(listing, op.reads[1])
        else:
            kept.update(op.reads)
    return {name: picks for name, picks in found.items() if name not in kept}


def _number(listing: Listing, name: str) -> int:
    return int(numpy_helper.to_array(listing.constants[name]).item())


def _lengths(listing: Listing, op: Op) -> list[int]:
    """The lengths of the parts along the axis; empty where they are not known."""
    type_ = listing.types.get(op.reads[0])
    given = listing.constants.get(op.reads[1]) if len(op.reads) > 1 else None
    if len(op.reads) > 1 and given is None:
        return []
    sizes = numpy_helper.to_array(given) if given is not None else np.array(1)
    if sizes.ndim:
        return [int(n) for n in sizes]
    dims = type_.tensor_type.shape.dim if type_ is not None else []
    axis = _attribute(op, "axis", 0)
    if not -len(dims) <= axis < len(dims) or not dims[axis].HasField("dim_value"):
        return []
    whole, size = int(dims[axis].dim_value), int(sizes)
    return [min(size, whole - start) for start in range(0, whole, size)]


def _names(op: Op, picks: Mapping[str, int], count: int) -> tuple[str, ...]:
    """Names for the parts: that of the value first picked there, which torch's program knows as well."""
    names = [f"{op.outputs[0]}.{i}" for i in range(count)]
    for value, position in reversed(list(picks.items())):
        names[position] = value
    return tuple(names)


def _as(op: Op, kind: str, reads: Iterable[str], outputs: Iterable[str], axis: int) -> Op:
    proto = helper.make_node(kind, list(reads), list(outputs), op.proto.name, axis=axis)
    return replace(op, kind=kind, attributes=canonical(proto), reads=tuple(reads), outputs=tuple(outputs), proto=proto)


def _attribute(op: Op, name: str, default: int) -> int:
    attribute: onnx.AttributeProto | None = next((a for a in op.proto.attribute if a.name == name), None)
    return int(attribute.i) if attribute is not None else default
