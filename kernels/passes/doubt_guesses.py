"""Refuses an early stop where the iterations were only guessed and the end may hold a part of the last one.

Between two guessed iterations the boundary may lie anywhere, so that the end may finish the last iteration with the
constants of its own, or with its part of a stream. After fewer iterations it would finish another one with them.
"""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.program import Node, Program

_REASON = "nobody named the iterations, and {} at the end may belong to the last of them"


def doubt_guesses(program: Program) -> Program:
    """Sets `early_stop` where the end does to states what iterations do, or reads a constant like one of theirs."""
    if not program.guessed or program.early_stop:
        return program
    body = [node for segment in program.segments for node in segment.nodes]
    stacked = {name for segment in program.segments for name in segment.stacked}
    own = {_place(program, n, p) for n in body for p, name in enumerate(n.inputs) if name in stacked}
    kinds = {n.operator for n in body if OPERATORS[n.operator].kind != "view"}
    reached = {s.name for s in program.states}
    for node in program.end:
        if node.operator in kinds and any(i in reached for i in node.inputs):
            return replace(program, early_stop=_REASON.format(node.origin))
        reached.update(o for o in node.outputs if any(i in reached for i in node.inputs))
        for position, name in enumerate(node.inputs):
            if name in program.constants and _place(program, node, position) in own:
                return replace(program, early_stop=_REASON.format(node.origin))
    return program


def _place(program: Program, node: Node, position: int) -> object:
    """Where a constant is read: operator, position, type; of a view also what it shows a part of."""
    source = node.inputs[0] if OPERATORS[node.operator].kind == "view" else ""
    return node.operator, position, program.types[node.inputs[position]], source
