"""Counts arithmetic and memory traffic of a program from the operator table."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Cost
from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.fuse import stored_values
from unfoldc.kernels.program import Node, Program, Segment


def cost(program: Program) -> Cost:
    """Floating-point operations and bytes touched for one problem; stored values, weights, states count once."""
    per_segment = [(flops(program, s.nodes), _bytes(program, s)) for s in program.segments]
    return Cost(
        begin_flops=flops(program, program.begin),
        iterate_flops=tuple(f for s, (f, _) in zip(program.segments, per_segment, strict=True) for _ in range(s.count)),
        end_flops=flops(program, program.end),
        iterate_bytes=tuple(b for s, (_, b) in zip(program.segments, per_segment, strict=True) for _ in range(s.count)),
    )


def flops(program: Program, nodes: Sequence[Node]) -> int:
    """Floating-point operations of these nodes; a product and its addition count as two."""
    total = 0
    for node in nodes:
        types = [program.types[i] for i in node.inputs if i]
        output = program.types[node.outputs[0]]
        if output.dtype.startswith("float") or output.dtype == "bool":
            total += OPERATORS[node.operator].flops(types, output)
    return total


def _bytes(program: Program, segment: Segment) -> int:
    made = {o for n in segment.nodes for o in n.outputs}
    stored = stored_values(program)
    read = {i for n in segment.nodes for i in n.inputs if i and (i not in made or i in stored)}
    written = {o for o in made if o in stored}
    return sum(program.types[name].nbytes for name in read) + sum(program.types[name].nbytes for name in written)
