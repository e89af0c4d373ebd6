"""Steps that make a listing smaller and regular without touching what it computes; constants are never folded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx
from onnx import numpy_helper

from unfoldc.export.labels import Labels
from unfoldc.export.listing import Listing, Op


def merge_constants(listing: Listing, order: Iterable[str] = ()) -> Listing:
    """Equal weights (type, shape, bits) become one, and so do equal numbers of the module's code.

    A weight and such a number stay apart: that they are equal is chance. What is kept has the name that comes first in
    `order`, else the one that is read first.
    """
    read = [r for op in listing.ops for r in op.reads] + [v for m in listing.markers for v in m.before]
    names = dict.fromkeys(n for n in (*order, *read, *listing.outputs) if n in listing.constants)
    kept: dict[tuple[bool, int, tuple[int, ...], str], str] = {}
    same: dict[str, str] = {}
    for name in names:
        tensor = listing.constants[name]
        bits = hashlib.sha256(numpy_helper.to_array(tensor).tobytes()).hexdigest()
        first = kept.setdefault((name in listing.parameters, tensor.data_type, tuple(tensor.dims), bits), name)
        if first != name:
            same[name] = first
    constants = {n: t for n, t in listing.constants.items() if n not in same}
    return replace(listing.substitute(same), constants=constants, parameters=listing.parameters - same.keys())


def rename_constants(listing: Listing, names: Mapping[str, str]) -> Listing:
    """Constants under other names, as far as `names` has them."""
    names = {old: new for old, new in names.items() if old in listing.constants and old != new}
    constants = {names.get(n, n): t for n, t in listing.constants.items()}
    parameters = frozenset(names.get(n, n) for n in listing.parameters)
    return replace(listing.substitute(names), constants=constants, parameters=parameters)


def remove_identities(listing: Listing) -> Listing:
    """Whoever reads an Identity's result reads its input instead."""
    through: dict[str, str] = {}
    ops: list[Op] = []
    cut: list[int] = []
    for op in listing.ops:
        cut.append(len(ops))
        if op.kind == "Identity":
            through[op.outputs[0]] = op.reads[0]
        else:
            ops.append(op)
    cut.append(len(ops))
    markers = tuple(replace(m, at=cut[m.at]) for m in listing.markers)
    return replace(listing, ops=tuple(ops), markers=markers).substitute(through)


def remove_unused(listing: Listing, labels: Labels) -> tuple[Listing, Labels]:
    """Without operations that neither an output nor a marked state needs, and without constants that nothing reads."""
    producers = listing.producers()
    waiting = [v for v in (*listing.outputs, *(v for values in labels.marked for v in values)) if v]
    live: set[int] = set()
    while waiting:
        i = producers.get(waiting.pop(), -1)
        if i >= 0 and i not in live:
            live.add(i)
            waiting += [r for r in listing.ops[i].reads if r]
    keep = sorted(live)
    ops = tuple(listing.ops[i] for i in keep)
    read = {r for op in ops for r in op.reads} | set(listing.outputs) | {v for m in labels.marked for v in m}
    constants = {n: t for n, t in listing.constants.items() if n in read}
    pruned = replace(listing, ops=ops, constants=constants, parameters=listing.parameters & constants.keys())
    return pruned, replace(labels, of=tuple(labels.of[i] for i in keep))


def sort_by_part(listing: Listing, labels: Labels) -> tuple[Listing, Labels]:
    """Operations in the order begin, iteration 0, 1, ..., end; within a part in the order in which they ran."""
    order = sorted(range(len(listing.ops)), key=lambda i: labels.of[i])
    ops = tuple(listing.ops[i] for i in order)
    return replace(listing, ops=ops), replace(labels, of=tuple(labels.of[i] for i in order))


def shared_bytes(listing: Listing, labels: Labels) -> tuple[int, int]:
    """Bytes of all constants as stored, and as they would be with a copy for each iteration that reads them."""
    readers: dict[str, set[int]] = {name: set() for name in listing.constants}
    for op, label in zip(listing.ops, labels.of, strict=True):
        for r in op.reads:
            if r in readers:
                readers[r].add(label)
    sizes = {name: tensor_bytes(tensor) for name, tensor in listing.constants.items()}
    return sum(sizes.values()), sum(sizes[n] * max(1, len(readers[n])) for n in sizes)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Size of a constant's elements in bytes."""
    return int(numpy_helper.to_array(tensor).nbytes)
