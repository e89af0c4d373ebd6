"""Puts what an exporter merged or pulled apart back where each iteration is like the others.

Exporters compute a common subexpression once, in the first layer that needs it, and unroll a stream in front of the
layers. Both are undone: a value of the first layer that several later ones read moves to `begin`, and what `begin`
computes for one layer only moves into that layer, if every layer gets its like. So does what `end` makes of each
layer's values before it joins them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels.program import Node, Program, Segment, attributes_key


def share_out(program: Program) -> Program:
    """Returns the program with those nodes moved; the values stay the same."""
    if len(program.segments) < 2:
        return program
    return _sink(_take_back(_lift(program)))


def _take_back(program: Program) -> Program:
    """Moves from `end` into the layers what is done there to each layer's values alike, before they are joined."""
    made = {o: k for k, s in enumerate(program.segments) for n in s.nodes for o in n.outputs}
    layer_of: dict[str, int] = {}
    inside = {o for n in program.end for o in n.outputs}
    for node in program.end:
        layers = {layer_of.get(i, made.get(i, -1)) for i in node.inputs if i in made or i in inside}
        if len(layers) == 1 and -1 not in layers:
            layer_of[node.outputs[0]] = next(iter(layers))
    everywhere = {
        kind
        for kind, count in _kinds(program, program.end, layer_of).items()
        if len(count) == len(program.segments) and len(set(count.values())) == 1
    }
    taken: list[list[Node]] = [[] for _ in program.segments]
    kept: list[Node] = []
    left: set[str] = set()
    for node in program.end:
        name = node.outputs[0]
        if name in layer_of and _kind(program, node) in everywhere and not left & set(node.inputs):
            taken[layer_of[name]].append(node)
        else:
            kept.append(node)
            left.update(node.outputs)
    segments = tuple(replace(s, nodes=(*s.nodes, *more)) for s, more in zip(program.segments, taken, strict=True))
    return replace(program, segments=segments, end=tuple(kept))


def _lift(program: Program) -> Program:
    """Moves to `begin` what the first layer computes and at least two layers after the next read."""
    first, *others = program.segments
    own = {o: n for n in first.nodes for o in n.outputs}
    readers = Counter(i for s in others for i in {i for n in s.nodes for i in n.inputs} if i in own)
    next_reads = {i for n in others[0].nodes for i in n.inputs}
    wanted = [name for name, count in readers.items() if count > 1 or (count == 1 and name not in next_reads)]
    lifted: set[str] = set()
    while wanted:
        node = own[wanted.pop()]
        if node.outputs[0] not in lifted:
            lifted.update(node.outputs)
            wanted.extend(i for i in node.inputs if i in own)
    moved = tuple(n for n in first.nodes if n.outputs[0] in lifted)
    if not moved or len(moved) == len(first.nodes):  # all of it: that is an iterate which later ones look back at
        return program
    rest = replace(first, nodes=tuple(n for n in first.nodes if n.outputs[0] not in lifted))
    return replace(program, begin=(*program.begin, *moved), segments=(rest, *others))


def _sink(program: Program) -> Program:
    """Moves into the layers what `begin` computes for one layer each, kind by kind."""
    layer_of = _sole_readers(program)
    inner = range(1, len(program.segments) - 1)
    everywhere = {
        kind
        for kind, count in _kinds(program, program.begin, layer_of).items()
        if len(count) >= max(2, len(program.segments) - 2) and len({count[k] for k in (inner or count)}) == 1
    }
    sunk: list[list[Node]] = [[] for _ in program.segments]
    kept: list[Node] = []
    below = {i for s in program.segments for n in s.nodes for i in n.inputs}
    for node in reversed(program.begin):
        name = node.outputs[0]
        if name in layer_of and _kind(program, node) in everywhere and name in below:
            sunk[layer_of[name]].append(node)
            below.update(node.inputs)
        else:
            kept.append(node)
    if not any(sunk):
        return program
    needed_above = {i for n in kept for i in n.inputs}
    if any(n.outputs[0] in needed_above for nodes in sunk for n in nodes):
        return program
    segments: Sequence[Segment] = [
        replace(s, nodes=(*reversed(nodes), *s.nodes)) for s, nodes in zip(program.segments, sunk, strict=True)
    ]
    return replace(program, begin=tuple(reversed(kept)), segments=tuple(segments))


def _sole_readers(program: Program) -> dict[str, int]:
    """Results of `begin` that a single layer reads, directly or through others of `begin`, and that layer."""
    readers: defaultdict[str, set[int]] = defaultdict(set)
    outside = {i for n in program.end for i in n.inputs} | set(program.outputs)
    for k, segment in enumerate(program.segments):
        for node in segment.nodes:
            for name in node.inputs:
                readers[name].add(k)
    for node in reversed(program.begin):
        name = node.outputs[0]
        if name in outside:
            readers[name].update((-1, -2))
        for i in node.inputs:
            readers[i] |= readers[name]
    return {n.outputs[0]: next(iter(r)) for n in program.begin if len(r := readers[n.outputs[0]]) == 1}


def _kinds(program: Program, nodes: Sequence[Node], layer_of: Mapping[str, int]) -> dict[object, Counter[int]]:
    """How many nodes of each kind belong to each layer."""
    kinds: defaultdict[object, Counter[int]] = defaultdict(Counter)
    for node in nodes:
        if node.outputs[0] in layer_of:
            kinds[_kind(program, node)][layer_of[node.outputs[0]]] += 1
    return kinds


def _kind(program: Program, node: Node) -> object:
    """What nodes of different layers must have in common to be each other's like."""
    return node.operator, attributes_key(node.attributes), program.types[node.outputs[0]]
