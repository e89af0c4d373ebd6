"""Finds which iteration each ONNX node belongs to: from our own node names, else from the exporter's module scopes."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import onnx

_OWN_NAME = re.compile(r"^iteration\.(\d{1,6})/")
_SCOPE_ITEM = re.compile(r"^(?:(.*)\.)?(\d{1,6})$")
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_LONGEST_SCOPES = 10_000


@dataclass(frozen=True)
class Boundaries:
    """`labels[i]` is the iteration of the i-th node, None outside; `source` says how they were found, in words."""

    labels: tuple[int | None, ...]
    source: str


def find_boundaries(nodes: Sequence[onnx.NodeProto]) -> Boundaries:
    """Labels for the nodes of a graph. Nodes that lie between two labelled iterations join the earlier one."""
    labels = [_own_label(node.name) for node in nodes]
    source = "the names written by export_onnx"
    if not any(label is not None for label in labels):
        labels, path = _scope_labels(nodes)
        source = f"the module list {path!r} recorded by the exporter"
    if not any(label is not None for label in labels):
        return Boundaries(tuple(None for _ in nodes), "")
    return Boundaries(tuple(_close(nodes, _renumber(labels))), source)


def _own_label(name: str) -> int | None:
    match = _OWN_NAME.match(name)
    return int(match.group(1)) if match else None


def _scope_labels(nodes: Sequence[onnx.NodeProto]) -> tuple[list[int | None], str]:
    """Labels from the list whose items run once each, in order, and hold the most nodes; on a tie the first, outermost.

    A list that starts over, inside a module that a loop calls again and again, holds no iterations; nor do lists that
    do the same one after the other, the networks of several iterations. Where the exporter moved a constant says
    nothing.
    """
    found: list[dict[str, int]] = []
    ran: defaultdict[str, list[_Ran]] = defaultdict(list)
    for position, node in enumerate(nodes):
        own: dict[str, int] = {}
        for scope in _scopes(node):
            match = _SCOPE_ITEM.match(scope)
            if match:
                own.setdefault(match.group(1) or "", int(match.group(2)))
        found.append(own)
        if node.op_type != "Constant":
            for path, item in own.items():
                ran[path].append(_Ran(position, item, node.op_type))
    lists = [path for path in ran if _in_order(ran[path]) and not any(_follows(ran[path], r) for r in ran.values())]
    if not lists:
        return [None] * len(nodes), ""
    best = max(lists, key=lambda path: (len(ran[path]), -ran[path][0].position, -len(path)))
    return [own.get(best) for own in found], best


class _Ran(NamedTuple):
    """A node of an item of a list."""

    position: int
    item: int
    operator: str


def _in_order(ran: Sequence[_Ran]) -> bool:
    items = [r.item for r in ran]
    return len(set(items)) > 1 and items == sorted(items)


def _follows(a: Sequence[_Ran], b: Sequence[_Ran]) -> bool:
    """Whether one list does the same as the other, all of it before or all of it after."""
    apart = a[-1].position < b[0].position or b[-1].position < a[0].position
    return apart and [r[1:] for r in a] == [r[1:] for r in b]


def _scopes(node: onnx.NodeProto) -> list[str]:
    for entry in node.metadata_props:
        if entry.key == _SCOPES_KEY and len(entry.value) <= _LONGEST_SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return []
            # The last entry is the operation itself, not a module.
            return [s for s in scopes[:-1] if isinstance(s, str)] if isinstance(scopes, list) else []
    return []


def _renumber(labels: Sequence[int | None]) -> list[int | None]:
    present = sorted({label for label in labels if label is not None})
    position = {label: i for i, label in enumerate(present)}
    return [None if label is None else position[label] for label in labels]


def _close(nodes: Sequence[onnx.NodeProto], labels: Sequence[int | None]) -> list[int | None]:
    """Gives unlabelled nodes between iterations, and labelled ones out of order, the label that data flow demands."""
    label_of: dict[str, int] = {}
    closed: list[int] = []
    for node, label in zip(nodes, labels, strict=True):
        reached = max((label_of.get(name, -1) for name in node.input), default=-1)
        own = reached if label is None else max(label, reached)
        closed.append(own)
        if node.op_type != "Constant":  # import turns these into constants, which belong to no iteration
            label_of.update(dict.fromkeys(node.output, own))
    # Backwards: an unlabelled node that no labelled one needs any more belongs to the end.
    needed: set[str] = set()
    result: list[int | None] = list(labels)
    for i in reversed(range(len(nodes))):
        inside = labels[i] is not None or any(name in needed for name in nodes[i].output)
        if inside:
            needed.update(nodes[i].input)
        result[i] = closed[i] if inside and closed[i] >= 0 else None
    return result
