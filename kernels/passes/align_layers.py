"""Compares two layers node by node: are they the same computation up to constants?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

import numpy as np

from unfoldc.kernels.program import Node, TensorType

# Exporters drop what nobody reads: how many guesses of what was dropped are tried.
_GUESSES = 2000
_FEW = 64


@dataclass
class Alignment:
    """`values` maps a value made in the template to its twin; `inputs[(i, p)]` is what stands at input p of node i.

    `missing` are template nodes without a twin, allowed in the last layer, whose unread results an exporter drops.
    `reason` says where and how the layers differ, empty if they match.
    """

    values: dict[str, str] = field(default_factory=dict)
    inputs: dict[tuple[int, int], str] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    ambiguous: bool = False
    reason: str = ""


def align(template: Sequence[Node], layer: Sequence[Node], types: Mapping[str, TensorType]) -> Alignment:
    """Aligns `layer` with `template`, both in order of execution."""
    result = Alignment()
    made = {o for n in template for o in n.outputs}
    own: set[str] = set()
    for i, node in enumerate(template):
        if i == len(layer):
            result.reason = f"{node.origin} of {_iteration(node)} has no counterpart in the other iteration"
            return result
        twin = layer[i]
        result.reason = differs(node, twin, types)
        same = len(node.inputs) == len(twin.inputs) and all(
            result.values.get(a) == b if a in made else b not in own and bool(a) == bool(b)
            for a, b in zip(node.inputs, twin.inputs, strict=True)
        )
        if not result.reason and not same:
            result.reason = f"{twin.origin} reads other values than {node.origin} does"
        if result.reason:
            return result
        result.values.update(zip(node.outputs, twin.outputs, strict=True))
        own.update(twin.outputs)
        result.inputs.update(((i, p), name) for p, name in enumerate(twin.inputs))
    if len(layer) > len(template):
        result.reason = f"{layer[len(template)].origin} has no counterpart in the other iteration"
    return result


def align_shortened(template: Sequence[Node], layer: Sequence[Node], types: Mapping[str, TensorType]) -> Alignment:
    """Aligns a layer that may lack nodes of the template: what only unread results need.

    Each result of the layer is tried on the template's nodes, and what they read is followed back from there.
    """
    whole = align(template, layer, types)
    if not whole.reason:
        return whole
    search = _Search(template, layer, types)
    pairs = search.assign(search.results(), {})
    if not pairs or len(pairs) < len(layer):
        return whole
    found = Alignment(missing=set(range(len(template))) - set(pairs.values()), ambiguous=search.ambiguous(pairs))
    for position, i in pairs.items():
        twin = layer[position]
        found.values.update(zip(template[i].outputs, twin.outputs, strict=True))
        found.inputs.update(((i, p), name) for p, name in enumerate(twin.inputs))
    return found


class _Search:
    """Pairs of a layer's position and a template's, for nodes that do the same with the same."""

    def __init__(self, template: Sequence[Node], layer: Sequence[Node], types: Mapping[str, TensorType]) -> None:
        self.template, self.layer, self.types = template, layer, types
        self.made = {o: i for i, n in enumerate(template) for o in n.outputs}
        self.own = {o: i for i, n in enumerate(layer) for o in n.outputs}
        self.left = _GUESSES

    def results(self) -> list[int]:
        """Positions of the layer's nodes that it does not read itself."""
        read = {name for node in self.layer for name in node.inputs}
        return [i for i, node in enumerate(self.layer) if not any(o in read for o in node.outputs)]

    def assign(self, results: Sequence[int], pairs: dict[int, int]) -> dict[int, int] | None:
        """Pairs for all that the results need; None if there are none, or not among the first guesses."""
        if not results:
            return pairs
        for i in reversed(range(len(self.template))):
            more = self.follow(i, results[0], pairs)
            found = self.assign(results[1:], more) if more is not None else None
            if found is not None:
                return found
        return None

    def ambiguous(self, pairs: Mapping[int, int]) -> bool:
        """Whether one of the results could just as well stand for another node of the template."""
        for position in self.results():
            others = (i for i in range(len(self.template)) if i != pairs[position])
            if any(self.follow(i, position, {}) is not None for i in others):
                return True
        return self.left < 0

    def follow(self, i: int, position: int, pairs: Mapping[int, int]) -> dict[int, int] | None:
        """`pairs` with these two nodes and all that they read in their layers; None if they differ somewhere."""
        found, taken = dict(pairs), set(pairs.values())
        todo = [(i, position)]
        self.left -= 1
        while todo and self.left >= 0:
            i, position = todo.pop()
            if found.get(position, i) != i:
                return None
            if position in found:
                continue
            node, twin = self.template[i], self.layer[position]
            if i in taken or differs(node, twin, self.types) or len(node.inputs) != len(twin.inputs):
                return None
            found[position] = i
            taken.add(i)
            for a, b in zip(node.inputs, twin.inputs, strict=True):
                if (a in self.made, bool(a)) != (b in self.own, bool(b)):
                    return None
                if a in self.made:
                    todo.append((self.made[a], self.own[b]))
        return found if not todo else None


def dropped(nodes: Sequence[Node], results: Iterable[str]) -> Iterator[list[int]]:
    """Which nodes remain if some of the results are not wanted: few unwanted ones first, never all."""
    wanted = sorted(results)
    sets = (set(c) for n in range(1, len(wanted)) for c in combinations(wanted, n))
    for unwanted in islice(sets, _FEW):
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


def differs(node: Node, twin: Node, types: Mapping[str, TensorType]) -> str:
    """How the operations differ, their inputs aside; empty if they do not."""
    if node.operator != twin.operator:
        return f"{twin.origin} stands where {_iteration(node)} has {node.origin}"
    if not same_attributes(node.attributes, twin.attributes):
        return f"{twin.origin} has other attributes than {node.origin}"
    result, other = types[node.outputs[0]], types[twin.outputs[0]]
    if result != other:
        return f"{twin.origin} makes {other.dtype}{list(other.shape)}, {node.origin} {result.dtype}{list(result.shape)}"
    return ""


def _iteration(node: Node) -> str:
    return f"iteration {node.origin.iteration}"
