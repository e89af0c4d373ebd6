"""Moves into `begin` what every iteration of a loop body would compute again, such as W y for a tied W."""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.program import Node, Program, Segment, TensorType, unused_name


def hoist_invariants(program: Program) -> Program:
    """Hoists from segments that repeat. A view is hoisted only where something hoisted reads through it."""
    states = {s.name for s in program.states}
    begin = list(program.begin)
    types = dict(program.types)
    segments: list[Segment] = []
    for segment in program.segments:
        segments.append(_hoist(segment, states, begin, types) if segment.count > 1 else segment)
    return replace(program, begin=tuple(begin), segments=tuple(segments), types=types)


def _hoist(segment: Segment, states: set[str], begin: list[Node], types: dict[str, TensorType]) -> Segment:
    changing = states | segment.stacked
    for node in segment.nodes:
        if any(i in changing for i in node.inputs):
            changing = changing | set(node.outputs)
    maker = {o: n for n in segment.nodes for o in n.outputs}
    hoisted: dict[str, str] = {}

    def lift(name: str) -> str:
        """Puts the maker of an invariant value into `begin`, its views under a new name, and returns its name there."""
        if name not in maker or name in hoisted:
            return hoisted.get(name, name)
        node = maker[name]
        view = OPERATORS[node.operator].kind == "view"
        inputs = tuple(lift(i) for i in node.inputs)
        outputs = tuple(unused_name(f"{o} (hoisted)", types) if view else o for o in node.outputs)
        types.update({new: types[old] for old, new in zip(node.outputs, outputs, strict=True)})
        begin.append(replace(node, inputs=inputs, outputs=outputs))
        hoisted.update(zip(node.outputs, outputs, strict=True))
        return hoisted[name]

    kept: list[Node] = []
    for node in segment.nodes:
        if any(o in changing for o in node.outputs) or OPERATORS[node.operator].kind == "view":
            kept.append(node)
        else:
            lift(node.outputs[0])
    return replace(segment, nodes=tuple(kept))
