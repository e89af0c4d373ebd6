"""What the end reads of each iteration: estimates that are handed out one by one, and the last one as the answer.

Rolling keeps such values in slots, one per iteration. Where the end only joins them, an early stop is allowed, and the
slots of iterations that did not run hold zeros. The answer itself must come from the state, or it would be such a zero.
"""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.passes.thread_states import KEPT
from unfoldc.kernels.program import Node, Program

# What takes elements elsewhere and leaves them as they are.
_MOVING = frozenset(
    f"ai.onnx.{name}" for name in ("Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)


def hand_out(program: Program) -> Program:
    """The program with its answer read from a state, and an early stop where the rest is only handed out."""
    slots = {n.outputs[0] for n in program.end if _is_slot(n, program)}
    if not slots:
        return program
    program = _from_states(program, slots)
    behind = _behind(program, slots)
    alone = any(len(behind.get(o, ())) == 1 for o in program.outputs)
    computed = any(
        "proto" in n.attributes and n.operator not in _MOVING and any(behind.get(i) for i in n.inputs)
        for n in program.end
    )
    return program if alone or computed or program.early_stop != KEPT else replace(program, early_stop="")


def _is_slot(node: Node, program: Program) -> bool:
    histories = {h for s in program.segments for h in s.kept}
    return "proto" not in node.attributes and bool(node.inputs) and node.inputs[0] in histories


def _behind(program: Program, slots: set[str]) -> dict[str, set[str]]:
    """The slots that each value of the end is made from."""
    behind = {slot: {slot} for slot in slots}
    for node in program.end:
        if node.outputs[0] not in slots:
            found = set().union(*(behind.get(i, set()) for i in node.inputs))
            behind.update((o, found) for o in node.outputs if found)
    return behind


def _from_states(program: Program, slots: set[str]) -> Program:
    """Reads the slot of the last iteration from the state of the same content, but where it is joined with others."""
    last = program.segments[-1]
    holder = {value: state for state, value in last.carried.items()}
    state_of = {
        n.outputs[0]: holder[last.kept[n.inputs[0]]]
        for n in program.end
        if n.outputs[0] in slots
        and last.kept.get(n.inputs[0]) in holder
        and int(program.constants[n.inputs[1]]) == last.count - 1
    }
    behind = _behind(program, slots)
    joined: set[str] = set()
    for node in reversed(program.end):
        if any(o in joined or len(behind.get(o, ())) > 1 for o in node.outputs):
            joined.update(node.inputs)
    end = tuple(
        n if any(o in joined or len(behind.get(o, ())) > 1 for o in n.outputs) else _renamed(n, state_of)
        for n in program.end
    )
    return replace(program, end=end, outputs=tuple(state_of.get(o, o) for o in program.outputs))


def _renamed(node: Node, names: dict[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(i, i) for i in node.inputs))
