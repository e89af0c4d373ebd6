"""Compares two layers node by node: are they the same computation up to constants?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

import numpy as np

from unfoldc.kernels.program import Node, TensorType

# Exporters drop what nobody reads: how many guesses of what was dropped are tried.
_GUESSES = 256


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


def align(
    template: Sequence[Node],
    layer: Sequence[Node],
    types: Mapping[str, TensorType],
    among: Sequence[int] | None = None,
) -> Alignment:
    """Aligns `layer` with the template's nodes `among` (all if None), both in order of execution."""
    positions = range(len(template)) if among is None else among
    result = Alignment(missing=set(range(len(template))) - set(positions))
    made = {o for n in template for o in n.outputs}
    own: set[str] = set()
    for position, i in enumerate(positions):
        node = template[i]
        twin = layer[position] if position < len(layer) else None
        result.reason = _difference(node, twin, made, own, result.values, types)
        if twin is None or result.reason:
            return result
        result.values.update(zip(node.outputs, twin.outputs, strict=True))
        own.update(twin.outputs)
        result.inputs.update(((i, p), name) for p, name in enumerate(twin.inputs))
    if len(layer) > len(positions):
        extra = layer[len(positions)]
        result.reason = f"{extra.origin} has no counterpart in the other iteration"
    return result


def align_shortened(
    template: Sequence[Node], layer: Sequence[Node], types: Mapping[str, TensorType], results: Iterable[str]
) -> Alignment:
    """Aligns a layer that may lack the nodes which only some of the template's `results` need."""
    whole = align(template, layer, types)
    if not whole.reason:
        return whole
    operators = Counter(n.operator for n in layer)
    for among in dropped(template, results):
        if Counter(template[i].operator for i in among) == operators:
            found = align(template, layer, types, among)
            if not found.reason:
                return found
    return whole


def dropped(nodes: Sequence[Node], results: Iterable[str]) -> Iterator[list[int]]:
    """Which nodes remain if some of the results are not wanted: few unwanted ones first, never all."""
    wanted = sorted(results)
    sets = (set(c) for n in range(1, len(wanted)) for c in combinations(wanted, n))
    for unwanted in islice(sets, _GUESSES):
        needed = set(wanted) - unwanted
        kept = []
        for i in reversed(range(len(nodes))):
            if any(o in needed for o in nodes[i].outputs):
                needed.update(nodes[i].inputs)
                kept.append(i)
        yield kept[::-1]


def same_attributes(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    """Equality of attributes, arrays included."""
    return a.keys() == b.keys() and all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in a)


def _difference(
    node: Node,
    twin: Node | None,
    made: set[str],
    own: set[str],
    values: Mapping[str, str],
    types: Mapping[str, TensorType],
) -> str:
    """How the two nodes differ, empty if they do the same; `own` are the values made in the twin's layer so far."""
    if twin is None:
        return f"{node.origin} of {_iteration(node)} has no counterpart in the other iteration"
    if node.operator != twin.operator:
        return f"{twin.origin} stands where {_iteration(node)} has {node.origin}"
    if not same_attributes(node.attributes, twin.attributes):
        return f"{twin.origin} has other attributes than {node.origin}"
    result, other = types[node.outputs[0]], types[twin.outputs[0]]
    if result != other:
        return f"{twin.origin} makes {other.dtype}{list(other.shape)}, {node.origin} {result.dtype}{list(result.shape)}"
    same = len(node.inputs) == len(twin.inputs) and all(
        values.get(a) == b if a in made else b not in own and bool(a) == bool(b)
        for a, b in zip(node.inputs, twin.inputs, strict=True)
    )
    return "" if same else f"{twin.origin} reads other values than {node.origin} does"


def _iteration(node: Node) -> str:
    return f"iteration {node.origin.iteration}"
