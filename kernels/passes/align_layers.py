"""Compares two layers node by node: are they the same computation up to constants?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfoldc.kernels.program import Node


@dataclass
class Alignment:
    """`values` maps a value made in the template to its twin; `inputs[(i, p)]` is what stands at input p of node i.

    `missing` are template nodes without a twin, allowed in the last layer, whose unread results an exporter drops.
    `reason` says where and how the layers differ, empty if they match.
    """

    values: dict[str, str] = field(default_factory=dict)
    inputs: dict[tuple[int, int], str] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    reason: str = ""


def align(template: Sequence[Node], layer: Sequence[Node], may_miss: bool) -> Alignment:
    """Aligns `layer` with `template`, both in order of execution."""
    result = Alignment()
    made = {o for n in template for o in n.outputs}
    position = 0
    for i, node in enumerate(template):
        if position < len(layer) and _fits(node, layer[position], made, result.values):
            twin = layer[position]
            result.values.update(zip(node.outputs, twin.outputs, strict=True))
            for p, name in enumerate(twin.inputs):
                result.inputs[(i, p)] = name
            position += 1
        elif may_miss and any(o not in result.values for o in node.outputs):
            result.missing.add(i)
        else:
            result.reason = _difference(node, layer[position] if position < len(layer) else None, made, result.values)
            return result
    if position < len(layer):
        extra = layer[position]
        result.reason = f"{extra.origin} has no counterpart in {_iteration(template[0])}"
    return result


def _fits(node: Node, twin: Node, made: set[str], values: Mapping[str, str]) -> bool:
    if node.operator != twin.operator or len(node.inputs) != len(twin.inputs) or len(node.outputs) != len(twin.outputs):
        return False
    if not same_attributes(node.attributes, twin.attributes):
        return False
    own = set(values.values())
    for a, b in zip(node.inputs, twin.inputs, strict=True):
        inside = a in made
        if inside and values.get(a) != b:
            return False
        if not inside and (b in own or bool(a) != bool(b)):
            return False
    return True


def same_attributes(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    """Equality of attributes, arrays included."""
    return a.keys() == b.keys() and all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in a)


def _iteration(node: Node) -> str:
    return f"iteration {node.origin.iteration}"


def _difference(node: Node, twin: Node | None, made: set[str], values: Mapping[str, str]) -> str:
    if twin is None:
        return f"{node.origin} of {_iteration(node)} has no counterpart in the other iteration"
    if node.operator != twin.operator:
        return f"{twin.origin} stands where {_iteration(node)} has {node.origin}"
    if not same_attributes(node.attributes, twin.attributes):
        return f"{twin.origin} has other attributes than {node.origin}"
    return f"{twin.origin} reads other values than {node.origin} does"
