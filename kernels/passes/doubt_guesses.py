"""Refuses an early stop where the iterations were only guessed and the end may hold a part of the last one.

Between two guessed iterations the boundary may lie anywhere, so that the end may finish the last iteration with the
constants of its own, or with its part of a stream. After fewer iterations it would finish another one with them.
"""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.program import Node, Program


def doubt_guesses(program: Program) -> Program:
    """Sets `early_stop` where the end reads a constant like one that differs per iteration."""
    if not program.guessed or program.early_stop:
        return program
    own = {
        _place(program, node, position)
        for segment in program.segments
        for node in segment.nodes
        for position, name in enumerate(node.inputs)
        if name in segment.stacked
    }
    for node in program.end:
        for position, name in enumerate(node.inputs):
            if name in program.constants and _place(program, node, position) in own:
                reason = f"nobody named the iterations, and {node.origin} at the end may belong to the last of them"
                return replace(program, early_stop=reason)
    return program


def _place(program: Program, node: Node, position: int) -> object:
    """Where a constant is read: operator, position, type; of a view also what it shows a part of."""
    source = node.inputs[0] if OPERATORS[node.operator].kind == "view" else ""
    return node.operator, position, program.types[node.inputs[position]], source
