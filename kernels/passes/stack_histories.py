"""Turns the join of one estimate per iteration, as `torch.stack` leaves it, into a view of the state that keeps them.

Where the end reads what (nearly) every iteration made, rolling keeps those values in a state with a slot per iteration
and reads the slots one by one. Joined in order along one axis, they are that state with its axes in another order; the
join of K parts, whose code grows with K, goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.thread_states import KEPT
from unfoldc.kernels.program import Node, Program, TensorType, unused_name


def stack_histories(program: Program) -> Program:
    """Returns the program with such joins replaced by Transpose, and Reshape where the parts have no axis for it."""
    histories = {h for s in program.segments for h in s.kept}
    if not histories:
        return program
    maker = {o: n for n in program.end for o in n.outputs}
    constants, types = dict(program.constants), dict(program.types)
    end: list[Node] = []
    for node in program.end:
        found = _whole_history(node, maker, program, histories) if node.operator == "Concat" else None
        end += _view(node, *found, constants, types) if found else [node]
    viewed = replace(program, end=tuple(end), constants=constants, types=types)
    stop = _early_stop(viewed, histories) if viewed.early_stop == KEPT else viewed.early_stop
    return replace(viewed, early_stop=stop)


def _early_stop(program: Program, histories: set[str]) -> str:
    """Why fewer iterations have no answer: something is computed from all slots, or some are picked out.

    Empty if they are handed out together.
    """
    reached, needed = set(histories), set(program.outputs)
    for node in reversed(program.end):
        if needed & set(node.outputs):
            needed.update(node.inputs)
    single = ""
    for node in program.end:
        if any(i in reached for i in node.inputs) and needed & set(node.outputs):
            sizes = [program.types[i].size for i in node.inputs if i in reached]
            if program.types[node.outputs[0]].size < max(sizes):
                single = single or f"the answer is made from what certain iterations leave ({node.origin})"
            if OPERATORS[node.operator].kind != "view":
                return f"{node.origin} computes with what all iterations leave"
            reached.update(node.outputs)
    return single


def _whole_history(
    node: Node, maker: Mapping[str, Node], program: Program, histories: set[str]
) -> tuple[str, bool] | None:
    """The history whose slots are joined in order, and whether each part has an axis of its own for it."""
    axis = node.attributes["axis"] % len(program.types[node.outputs[0]].shape)
    name, stacked = "", False
    for k, part in enumerate(node.inputs):
        slot = maker.get(part)
        inserted = slot is not None and slot.operator in ("Unsqueeze", "Reshape") and slot.inputs[0] in maker
        if slot is not None and inserted:
            shape, inner = program.types[part].shape, program.types[slot.inputs[0]].shape
            if shape != (*inner[:axis], 1, *inner[axis:]):
                return None
            slot = maker[slot.inputs[0]]
        if slot is None or slot.operator != "Gather" or slot.inputs[0] not in histories:
            return None
        position = program.constants.get(slot.inputs[1])
        if position is None or position.shape != () or position.item() != k:
            return None
        if k and (slot.inputs[0], inserted) != (name, stacked):
            return None
        name, stacked = slot.inputs[0], inserted
    return (name, stacked) if len(node.inputs) == program.types[name].shape[0] else None


def _view(
    node: Node, history: str, stacked: bool, constants: dict[str, np.ndarray], types: dict[str, TensorType]
) -> list[Node]:
    shape, out = types[history].shape, node.outputs[0]
    axis = node.attributes["axis"] % len(types[out].shape)
    order = [*range(1, axis + 1), 0, *range(axis + 1, len(shape))]
    if stacked:
        return [Node("Transpose", (history,), (out,), {"perm": order}, node.origin)]
    turned, target = unused_name(f"{out} (turned)", types), unused_name(f"{out} (shape)", types)
    types[turned] = TensorType(types[history].dtype, tuple(shape[i] for i in order))
    constants[target] = np.array(types[out].shape, np.int64)
    types[target] = TensorType("int64", constants[target].shape)
    return [
        Node("Transpose", (history,), (turned,), {"perm": order}, node.origin),
        Node("Reshape", (turned, target), (out,), {}, node.origin),
    ]
