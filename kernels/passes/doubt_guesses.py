"""Refuses an early stop where the iterations were only guessed and the end may hold a part of the last one.

Between two guessed iterations the boundary may lie anywhere, so that the end may finish the last iteration with the
constants of its own. After fewer iterations it would finish another one with them.
"""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.program import Program, TensorType


def doubt_guesses(program: Program) -> Program:
    """Sets `early_stop` where the end computes from states with a constant like one that differs per iteration."""
    if not program.guessed or program.early_stop:
        return program
    own = _own_constants(program)
    reached = {s.name for s in program.states}
    for node in program.end:
        if not any(i in reached for i in node.inputs):
            continue
        reached.update(node.outputs)
        for position, name in enumerate(node.inputs):
            if name in program.constants and (node.operator, position, program.types[name]) in own:
                reason = f"nobody named the iterations, and {node.origin} at the end may belong to the last of them"
                return replace(program, early_stop=reason)
    return program


def _own_constants(program: Program) -> set[tuple[str, int, TensorType]]:
    """Where in an iteration a constant of its own is read: operator, position, type."""
    return {
        (node.operator, position, program.types[name])
        for segment in program.segments
        for node in segment.nodes
        for position, name in enumerate(node.inputs)
        if name in segment.stacked
    }
