"""Equal values become one: tied weights are stored once, and the layers that use them stay alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from unfoldc.kernels.program import Node, Program


def share_weights(program: Program) -> Program:
    """Keeps the first of equal constants (same type, shape, bytes) and of equal nodes of `begin`; renames the others.

    Exporters transpose a tied weight once for each layer, often outside the layers.
    """
    first: dict[object, str] = {}
    rename: dict[str, str] = {}
    kept: dict[str, np.ndarray] = {}
    for name, value in program.constants.items():
        rename[name] = first.setdefault(_content(value), name)
        if rename[name] == name:
            kept[name] = value

    def node(n: Node) -> Node:
        return replace(n, inputs=tuple(rename.get(i, i) for i in n.inputs))

    begin: list[Node] = []
    for n in map(node, program.begin):
        rename[n.outputs[0]] = first.setdefault((n.operator, n.inputs, frozen(n.attributes)), n.outputs[0])
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


def _content(value: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()


def frozen(attributes: Mapping[str, Any]) -> frozenset[object]:
    """Attributes as a value that can be compared and hashed."""
    return frozenset((key, str(type(value)), _content(np.asarray(value))) for key, value in attributes.items())
