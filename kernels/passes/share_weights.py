"""Equal values become one: tied weights are stored once, and the layers that use them stay alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfoldc.kernels.program import Node, Program, attributes_key, content_key


def share_weights(program: Program) -> Program:
    """Keeps the first of equal constants (same type, shape, bytes) and of equal nodes of `begin`; renames the others.

    Exporters transpose a tied weight once for each layer, often outside the layers. Nodes whose results the import has
    computed already, such as the length of a range, go.
    """
    program = _without_known(program)
    first: dict[object, str] = {}
    rename: dict[str, str] = {}
    kept: dict[str, np.ndarray] = {}
    for name, value in program.constants.items():
        rename[name] = first.setdefault(content_key(value), name)
        if rename[name] == name:
            kept[name] = value

    def node(n: Node) -> Node:
        return replace(n, inputs=tuple(rename.get(i, i) for i in n.inputs))

    begin: list[Node] = []
    for n in map(node, program.begin):
        rename[n.outputs[0]] = first.setdefault((n.operator, n.inputs, attributes_key(n.attributes)), n.outputs[0])
        if rename[n.outputs[0]] == n.outputs[0]:
            begin.append(n)
    return replace(
        program,
        constants=kept,
        begin=tuple(begin),
        segments=tuple(replace(s, nodes=tuple(map(node, s.nodes))) for s in program.segments),
        end=tuple(map(node, program.end)),
        outputs=tuple(rename.get(o, o) for o in program.outputs),
    )


def _without_known(program: Program) -> Program:
    def unknown(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(n for n in nodes if any(o not in program.constants or o in program.outputs for o in n.outputs))

    segments = tuple(replace(s, nodes=unknown(s.nodes)) for s in program.segments)
    return replace(program, begin=unknown(program.begin), segments=segments, end=unknown(program.end))
