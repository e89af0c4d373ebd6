"""What everything is called in the exported file: names that say to which part of the solver a node belongs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import onnx

from unfoldc.export.labels import BEGIN, Labels
from unfoldc.export.listing import Listing, Op


@dataclass(frozen=True)
class Interface:
    """Names of the model's inputs and outputs, and torch's symbol for the size of the batch ("" if that is fixed)."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch_symbol: str = ""


@dataclass(frozen=True)
class Names:
    """What values are called in the file, by their names in the listing; `nodes[i]` is the name of operation i."""

    values: Mapping[str, str]
    nodes: tuple[str, ...]


def choose_names(listing: Listing, labels: Labels, interface: Interface, path: str) -> Names:
    """Nodes are `begin/...`, `iteration.<k>/...`, `end/...` with submodule and operator; values as their nodes.

    Like iterations get like names. Constants of the module keep their names, others are numbered.
    """
    counts: Counter[str] = Counter()
    nodes = []
    values = dict(zip(listing.inputs, interface.inputs, strict=True))
    for op, label in zip(listing.ops, labels.of, strict=True):
        part = part_name(label, labels)
        stem = f"{part}/{op.group}{_submodule(op, path, part)}{op.kind}"
        nodes.append(f"{stem}_{counts[stem]}")
        counts[stem] += 1
        outputs = [v for v in op.outputs if v]
        values.update((v, nodes[-1] if len(outputs) == 1 else f"{nodes[-1]}.{i}") for i, v in enumerate(outputs))
    for value, name in shown_values(listing, labels, interface).items():
        values[value] = name
    taken = {*interface.inputs, *interface.outputs, *values.values()}
    numbers = (f"constant/{i}" for i in count())
    for name in listing.constants:
        wanted = name if name in listing.parameters else next(numbers)
        while wanted in taken:
            wanted = f"parameter.{wanted}"
        taken.add(wanted)
        values[name] = wanted
    return Names(values, tuple(nodes))


def part_name(label: int, labels: Labels) -> str:
    """`begin`, `iteration.<k>` or `end`."""
    return "begin" if label == BEGIN else "end" if label == labels.end else f"iteration.{label}"


def _submodule(op: Op, path: str, part: str) -> str:
    """Where in its iteration's module (or in the whole one) an operation stands, followed by a dot."""
    scope = op.scope[-1] if op.scope else ""
    item = re.escape(path) + r"\.\d+|" if path else ""
    inside = re.fullmatch(rf"(?:{item}{re.escape(part)})(?:\.(.*))?", scope)
    scope = (inside.group(1) or "") if inside else scope
    return f"{scope}." if scope else ""


def shown_values(listing: Listing, labels: Labels, interface: Interface) -> dict[str, str]:
    """Values that can carry an output's name themselves: made by an operation, not yet another output's.

    The last iteration may, for the solver's own outputs; what earlier ones make keeps a name like that of its
    neighbours.
    """
    producers = listing.producers()
    found: dict[str, str] = {}
    for value, name in zip(listing.outputs, interface.outputs, strict=True):
        if value in producers and value not in found and labels.of[producers[value]] >= labels.end - 1:
            found[value] = name
    return found


def with_batch(type_: onnx.TypeProto | None, symbol: str) -> onnx.TypeProto:
    """A type with torch's symbol for the batch spelt `batch`."""
    result = onnx.TypeProto()
    if type_ is not None:
        result.CopyFrom(type_)
    if symbol and result.HasField("tensor_type"):
        for dim in result.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dim.dim_param)
    return result


def type_text(type_: onnx.TypeProto | None, symbol: str = "") -> str:
    """A tensor's type as `float32[batch, 64]`, "" if it is not known."""
    if type_ is None or not type_.HasField("tensor_type"):
        return ""
    tensor = with_batch(type_, symbol).tensor_type
    dims = ", ".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
    return f"{onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)}[{dims}]"
