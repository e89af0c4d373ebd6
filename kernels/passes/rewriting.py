"""What passes that replace nodes share: the parts of a program under change, new nodes with types, new constants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unfoldc.kernels.operators import OPERATORS, result_types
from unfoldc.kernels.program import Node, Program, TensorType, content_key, unused_name


@dataclass(eq=False)
class Part:
    """`begin`, a segment's body or `end` under change. `maker` knows the nodes of `begin` too, whose views go on."""

    nodes: tuple[Node, ...]
    maker: dict[str, Node]
    stacked: set[str]
    count: int
    changing: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    readers: dict[str, list[Node]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.made.update(o for node in self.nodes for o in node.outputs)
        for node in self.nodes:
            for name in set(node.inputs):
                self.readers.setdefault(name, []).append(node)

    def own(self, name: str) -> Node | None:
        """The node of this part that makes a value."""
        return self.maker[name] if name in self.made else None

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a value which goes nowhere else, else None."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.results else None


@dataclass
class Rewriter:
    """Collects the constants and types of a program that is being rewritten."""

    program: Program
    types: dict[str, TensorType] = field(init=False)
    constants: dict[str, np.ndarray] = field(init=False)
    known: dict[object, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types, self.constants = dict(self.program.types), dict(self.program.constants)

    def constant(self, value: np.ndarray, name: str, part: Part | None = None) -> str:
        """A new constant, one for equal values; stacked in `part`, whose iterations its first axis runs over."""
        key = (content_key(value), None if part is None else id(part))
        if key not in self.known:
            new = unused_name(name, self.types)
            self.known[key], self.constants[new] = new, value
            self.types[new] = TensorType(str(value.dtype), value.shape if part is None else value.shape[1:])
        if part is not None:
            part.stacked.add(self.known[key])
        return self.known[key]

    def rewritten(self, change: Callable[[Part, Node], tuple[Node, ...] | None], bodies_only: bool = False) -> Program:
        """The program with each node replaced by what `change` makes of it, None to keep it."""
        program = self.program
        begin = self._begin_part()
        parts = [begin, *self._body_parts(begin), self._end_part(begin)]
        new: list[tuple[Node, ...]] = []
        for part in parts:
            if bodies_only and (part is begin or part is parts[-1]):
                new.append(part.nodes)
                continue
            changed = [change(part, node) for node in part.nodes]
            new.append(tuple(m for n, c in zip(part.nodes, changed, strict=True) for m in ((n,) if c is None else c)))
        segments = tuple(
            replace(s, nodes=nodes, stacked=frozenset(part.stacked))
            for s, nodes, part in zip(program.segments, new[1:-1], parts[1:-1], strict=True)
        )
        return replace(
            program, types=self.types, constants=self.constants, begin=new[0], segments=segments, end=new[-1]
        )

    def _begin_part(self) -> Part:
        program = self.program
        later = {i for s in program.segments for n in s.nodes for i in n.inputs}
        later |= {i for n in program.end for i in n.inputs} | {*program.outputs, *(s.initial for s in program.states)}
        later |= {v for s in program.segments for v in s.results}
        return Part(program.begin, _makers(program.begin), set(), 1, results=frozenset(later))

    def _body_parts(self, begin: Part) -> list[Part]:
        states = frozenset(s.name for s in self.program.states)
        parts = []
        for s in self.program.segments:
            changing = states | s.stacked
            for node in s.nodes:
                if any(i in changing for i in node.inputs):
                    changing |= set(node.outputs)
            maker = {**begin.maker, **_makers(s.nodes)}
            parts.append(Part(s.nodes, maker, set(s.stacked), s.count, changing, s.results))
        return parts

    def _end_part(self, begin: Part) -> Part:
        program = self.program
        maker = {**begin.maker, **_makers(program.end)}
        return Part(program.end, maker, set(), 1, results=frozenset(program.outputs))


def _makers(nodes: Iterable[Node]) -> dict[str, Node]:
    return {o: n for n in nodes for o in n.outputs}


@dataclass
class Maker:
    """Makes the nodes that replace one node; the last one made under `out` has that node's result."""

    rewriter: Rewriter
    part: Part
    old: Node
    nodes: list[Node] = field(default_factory=list)

    def node(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """The result of a new node, called `out` if given."""
        types, constants = self.rewriter.types, self.rewriter.constants
        known = [None if i in self.part.stacked else constants.get(i) for i in inputs]
        (result,) = result_types(OPERATORS[operator], attributes, [types[i] for i in inputs], known)
        name = out or unused_name(f"{self.old.outputs[0]} {operator}", types)
        types[name] = result
        self.nodes.append(Node(operator, inputs, (name,), attributes, self.old.origin))
        return name

    def number(self, value: float, like: str) -> str:
        """A scalar of the same type as a value."""
        array = np.array(value, self.rewriter.types[like].dtype)
        return self.rewriter.constant(array, f"{self.old.outputs[0]} number")

    def done(self, result: str) -> tuple[Node, ...] | None:
        """The new nodes, where `result`, the last one's, takes the name of what they replace; None for another type."""
        out, last = self.old.outputs[0], self.nodes[-1]
        if last.outputs != (result,) or self.rewriter.types[result] != self.rewriter.types[out]:
            return None
        return (*self.nodes[:-1], replace(last, outputs=(out,)))
