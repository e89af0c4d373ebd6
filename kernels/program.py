"""The graph-level representation: a solver as `begin`, K x `iterate`, `end`.

Right after import every iteration is a segment of its own (`count == 1`) and refers to values of earlier segments
directly. The roll pass merges isomorphic neighbours into one segment with `count > 1`; from then on values cross
segment boundaries only through `State` slots. All classes are frozen; a pass returns a new program.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorType:
    """Element type (a NumPy name) and shape; every dimension is known."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Origin:
    """Where a node comes from: its name and operator in the ONNX file, and its iteration (None outside of them)."""

    node: str
    operator: str
    iteration: int | None = None

    def __str__(self) -> str:
        return f"{self.node} ({self.operator})"


@dataclass(frozen=True)
class Node:
    """One operation. `operator` is a key of the operator table; an absent optional input is the empty string."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True)
class State:
    """A value carried from iteration to iteration: read under its own name, set by `initial` in `begin`."""

    name: str
    initial: str


@dataclass(frozen=True)
class Segment:
    """`count` iterations, numbered from `first`, that run the same nodes.

    `carried` maps a state's name to the value that becomes its content after each iteration. `stacked` names the
    constants whose leading axis runs over the segment's iterations; inside the nodes they stand for one slice. `kept`
    maps a state with one slot per iteration in front to the value that each iteration leaves in its slot.
    """

    first: int
    count: int
    nodes: tuple[Node, ...]
    carried: Mapping[str, str] = field(default_factory=dict)
    stacked: frozenset[str] = frozenset()
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> frozenset[str]:
        """The values that outlive an iteration."""
        return frozenset((*self.carried.values(), *self.kept.values()))


@dataclass(frozen=True)
class Program:
    """A whole solver. `types` holds the type of every value (of a stacked constant: of one slice).

    `guessed` says that nobody named the iterations: the segments are stretches of operations that repeat.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray]
    begin: tuple[Node, ...]
    segments: tuple[Segment, ...]
    end: tuple[Node, ...]
    states: tuple[State, ...] = ()
    output_names: tuple[str, ...] = ()
    rolled: bool = False
    guessed: bool = False
    early_stop: str = ""
    notes: tuple[str, ...] = ()

    @property
    def iterations(self) -> int:
        """K, the number of iterations."""
        return sum(s.count for s in self.segments)

    def in_one(self) -> Program:
        """The same with all nodes in one iteration."""
        return replace(self, begin=(), segments=(Segment(0, 1, tuple(self.nodes())),), end=())

    def nodes(self) -> Iterator[Node]:
        """All nodes in the order of execution, a rolled body once."""
        yield from self.begin
        for segment in self.segments:
            yield from segment.nodes
        yield from self.end


def unused_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, with quotes appended until it is not taken: names in a model may look like the compiler's own."""
    while wanted in taken:
        wanted += "'"
    return wanted


def content_key(value: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """What two equal arrays have in common, to be compared and hashed."""
    return str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()


def attributes_key(attributes: Mapping[str, Any]) -> frozenset[object]:
    """What equal attributes have in common, to be compared and hashed."""
    return frozenset((key, str(type(value)), content_key(np.asarray(value))) for key, value in attributes.items())
