"""Nodes with the iteration that each belongs to, in the order of execution, as `begin`, layers and `end`."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.program import Node

# A node and its iteration, None outside of them.
Labelled = tuple[Node, int | None]


def split_into_parts(
    nodes: Sequence[Labelled],
) -> tuple[list[Node], list[list[Node]], list[Node]]:
    """`begin`, the layers and `end`; without any label the whole graph counts as one iteration."""
    count = 1 + max((label for _, label in nodes if label is not None), default=-1)
    if not count:
        return [], [[node for node, _ in nodes]], []
    begin: list[Node] = []
    end: list[Node] = []
    layers: list[list[Node]] = [[] for _ in range(count)]
    iterated: set[str] = set()
    for node, label in nodes:
        after = label is not None or any(i in iterated for i in node.inputs)
        if after:
            iterated.update(node.outputs)
        (layers[label] if label is not None else end if after else begin).append(node)
    return begin, layers, end


def alive(nodes: Sequence[Labelled], outputs: Sequence[str]) -> list[Labelled]:
    """The nodes that an output depends on."""
    needed, kept = set(outputs), []
    for node, label in reversed(nodes):
        if any(o in needed for o in node.outputs):
            needed.update(node.inputs)
            kept.append((node, label))
    return kept[::-1]
