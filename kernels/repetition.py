"""Finds the iterations of a solver that nobody marked: a plain loop leaves the same sequence of operations K times.

Each node is reduced to what it does (operator, attributes, type of its result, number of operands). The longest
stretch of nodes that repeats with some period holds the iterations. They end behind the last node whose value is read
outside of the stretch; the first may be shorter, where an exporter computed parts of it in advance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.program import Node, TensorType, attributes_key

PHASES = ("answer", "start", "rest")
_MOST_NODES = 50_000


@dataclass(frozen=True)
class Stretch:
    """The nodes `first .. last` (both included) repeat with this period."""

    first: int
    last: int
    period: int

    @property
    def length(self) -> int:
        """Number of nodes."""
        return self.last - self.first + 1

    @property
    def even(self) -> bool:
        """Whether it is a whole number of iterations, so that there is one way only to cut it."""
        return self.length % self.period == 0


def find_repetition(
    nodes: Sequence[Node], types: Mapping[str, TensorType], outputs: Sequence[str], phase: str = "answer"
) -> list[int | None]:
    """The iteration of each node, None outside; all None where nothing repeats. For `phase` see `cut`."""
    return cut(find_stretch(nodes, types, outputs), len(nodes), phase)


def find_stretch(nodes: Sequence[Node], types: Mapping[str, TensorType], outputs: Sequence[str]) -> Stretch | None:
    """The stretch that holds the iterations, up to the last node that anything behind it reads; None without one."""
    if len(nodes) > _MOST_NODES:
        return None
    best = max(stretches(_tokens(nodes, types)), key=lambda s: (s.length, -s.period), default=None)
    if best is None or 2 * best.length < len(nodes):
        return None
    return Stretch(best.first, _last_read(nodes, best, outputs), best.period)


def cut(stretch: Stretch | None, count: int, phase: str) -> list[int | None]:
    """The iteration of each of `count` nodes, None outside; all None without a stretch.

    `phase` says where an iteration begins: by "answer" they end with it, and the first may be shorter; by "start" they
    begin with the first node that repeats, and what is left over is a last one if it is at least half as long; by
    "rest" they end with the answer, and less than half of one before them is none.
    """
    labels: list[int | None] = [None] * count
    if stretch is None:
        return labels
    first, last, period = stretch.first, stretch.last, stretch.period
    left = stretch.length % period
    if phase == "start" and 2 * left < period:
        last -= left
    if phase == "rest":
        if not left or 2 * left >= period:
            return labels
        first += left
    iterations = -(-(last - first + 1) // period)
    if iterations < 2:
        return labels
    for i in range(first, last + 1):
        labels[i] = (i - first) // period if phase == "start" else iterations - 1 - (last - i) // period
    return labels


def _tokens(nodes: Sequence[Node], types: Mapping[str, TensorType]) -> np.ndarray:
    """A number for what each node does; equal numbers for equal deeds."""
    numbers: dict[object, int] = {}
    result = []
    for node in nodes:
        deed = (node.operator, attributes_key(node.attributes), types[node.outputs[0]], len(node.inputs))
        result.append(numbers.setdefault(deed, len(numbers)))
    return np.array(result)


def stretches(tokens: np.ndarray) -> list[Stretch]:
    """For each period the longest stretch that stands there at least twice."""
    found = []
    for period in range(1, len(tokens) // 2 + 1):
        alike = tokens[period:] == tokens[:-period]
        if not alike.any():
            continue
        edges = np.flatnonzero(np.diff(np.concatenate(([0], alike.astype(np.int8), [0]))))
        starts, ends = edges[::2], edges[1::2]
        i = int(np.argmax(ends - starts))
        if ends[i] - starts[i] >= period:
            found.append(Stretch(int(starts[i]), int(ends[i]) - 1 + period, period))
    return found


def _last_read(nodes: Sequence[Node], stretch: Stretch, outputs: Sequence[str]) -> int:
    """The last node of the stretch whose value is an answer or read behind it."""
    read = set(outputs) | {i for node in nodes[stretch.last + 1 :] for i in node.inputs}
    within = (i for i in range(stretch.last, stretch.first - 1, -1) if any(o in read for o in nodes[i].outputs))
    return next(within, stretch.last)
