"""Evaluates what depends on constants alone; per iteration where the constants are stacked.

Views are left alone unless they select a part: reading a constant through a view is free, a copy of it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.program import Node, Program, Segment, TensorType

_SELECTING = frozenset({"Gather", "Window"})


def fold_constants(program: Program) -> Program:
    """Returns the program with those nodes replaced by constants (NumPy, in the nodes' own types)."""
    constants, types = dict(program.constants), dict(program.types)

    def fold(nodes: Sequence[Node], stacked: set[str], count: int, viewed: dict[str, Node]) -> tuple[Node, ...]:
        kept: list[Node] = []
        for node in nodes:
            if not all(i in constants or i in viewed or not i for i in node.inputs):
                kept.append(node)
                continue
            if OPERATORS[node.operator].kind == "view" and node.operator not in _SELECTING:
                viewed.update(dict.fromkeys(node.outputs, node))
                kept.append(node)
                continue
            varies = [_varies(i, stacked, viewed) for i in node.inputs]
            slices = range(count) if any(varies) else range(1)
            results = [_evaluate(node, constants, stacked, viewed, k) for k in slices]
            for position, name in enumerate(node.outputs):
                parts = [r[position] for r in results]
                constants[name] = np.stack(parts) if any(varies) else np.array(parts[0])
                types[name] = TensorType(str(parts[0].dtype), parts[0].shape)
                if any(varies):
                    stacked.add(name)
        return tuple(kept)

    # Not folded themselves, but their value is known: what reads them may fold.
    viewed: dict[str, Node] = {}
    begin = fold(program.begin, set(), 1, viewed)
    segments: list[Segment] = []
    for segment in program.segments:
        stacked = set(segment.stacked)
        nodes = fold(segment.nodes, stacked, segment.count, dict(viewed))
        segments.append(replace(segment, nodes=nodes, stacked=frozenset(stacked)))
    end = fold(program.end, set(), 1, viewed)
    return replace(program, constants=constants, types=types, begin=begin, segments=tuple(segments), end=end)


def known_values(program: Program) -> dict[str, np.ndarray]:
    """The constants, and the values of `begin` that depend on constants alone, views included."""
    known = dict(program.constants)
    for node in program.begin:
        if node.operator in OPERATORS and all(i in known or not i for i in node.inputs):
            known.update(zip(node.outputs, _evaluate(node, known, set(), {}, 0), strict=True))
    return known


def _varies(name: str, stacked: set[str], viewed: dict[str, Node]) -> bool:
    return name in stacked or (name in viewed and any(_varies(i, stacked, viewed) for i in viewed[name].inputs))


def _value(
    name: str, constants: dict[str, np.ndarray], stacked: set[str], viewed: dict[str, Node], k: int
) -> np.ndarray:
    if name in viewed:
        node = viewed[name]
        results = _evaluate(node, constants, stacked, viewed, k)
        return results[node.outputs.index(name)]
    return constants[name][k] if name in stacked else constants[name]


def _evaluate(
    node: Node, constants: dict[str, np.ndarray], stacked: set[str], viewed: dict[str, Node], k: int
) -> tuple[np.ndarray, ...]:
    inputs = [_value(i, constants, stacked, viewed, k) if i else None for i in node.inputs]
    with np.errstate(all="ignore"):
        return OPERATORS[node.operator].evaluate(node.attributes, inputs)
