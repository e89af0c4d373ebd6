"""Makes a first layer that an exporter simplified an instance of the body that the layers after it share.

Its initial states are constants, so exporters compute parts of it in advance. The layer is matched backwards from the
states that it hands over: a node of the body either has a twin in the layer, or a constant stands in its place. The
constant is believed only if the body, evaluated with the initial states found, gives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.align_layers import differs
from unfoldc.kernels.passes.thread_states import Run
from unfoldc.kernels.program import Node, Program, TensorType

_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@dataclass
class Absorbed:
    """The longer run, the constants in its first slice by stacked name, and the nodes that must move to `begin`."""

    run: Run
    slices: Mapping[str, str]
    moved: tuple[Node, ...]
    zeros: Mapping[str, TensorType] = field(default_factory=dict)


@dataclass
class _Match:
    program: Program
    known: Mapping[str, np.ndarray]
    run: Run
    stacks: Mapping[str, tuple[str, ...]]
    bound: dict[str, str] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.body = {o: n for n in self.run.segment.nodes for o in n.outputs}
        first = self.program.segments[self.run.segment.first - 1]
        self.made = {o: n for n in (*self.program.begin, *first.nodes) for o in n.outputs}

    def match(self, t: str, found: str) -> bool:
        """Whether the body's value `t` may be `found` in the first layer."""
        if t in self.bound:
            return self.same(self.bound[t], found)
        if not t or not found:
            return t == found
        if t in self.run.initial or t in self.stacks:
            fits = self.program.types[self.first_name(t)] == self.program.types[found]
            if fits and (t in self.run.initial or found in self.known):
                self.bound[t] = found
                return True
            return False
        if t not in self.body:
            return self.same(t, found)
        return self.twins(t, found) or self.constant(t, found)

    def results(self, names: Sequence[str]) -> None:
        """Finds the body's values that stand for further results of the layer, such as an estimate that is kept."""
        for found in names:
            if found not in self.bound.values():
                next((t for t in reversed(self.body) if t not in self.bound and self.twins(t, found)), None)

    def twins(self, t: str, found: str) -> bool:
        """Whether the nodes that make the two do the same with matching inputs."""
        node, twin = self.body[t], self.made.get(found)
        if twin is None or differs(node, twin, self.program.types) or len(node.inputs) != len(twin.inputs):
            return False
        before = dict(self.bound), list(self.assumed)
        self.bound[t] = found
        if all(self.match(a, b) for a, b in zip(node.inputs, twin.inputs, strict=True)):
            return True
        self.bound, self.assumed = before
        return False

    def constant(self, t: str, found: str) -> bool:
        """Takes a constant for the body's value, on trust for now."""
        if found not in self.known or self.program.types[t] != self.program.types[found]:
            return False
        self.bound[t] = found
        self.assumed.append(t)
        return True

    def same(self, a: str, b: str) -> bool:
        if a == b:
            return True
        x, y = self.known.get(a), self.known.get(b)
        return x is not None and y is not None and x.dtype == y.dtype and np.array_equal(x, y)

    def first_name(self, t: str) -> str:
        """A value of the type of a state or of one slice of a stacked constant."""
        return self.run.initial[t] if t in self.run.initial else self.stacks[t][0]

    def justified(self) -> bool:
        """Whether the body gives all the constants that were taken on trust."""
        values: dict[str, np.ndarray] = {}
        for t in self.assumed:
            found = self.evaluate(t, values)
            if found is None or not _close(found, self.known[self.bound[t]]):
                return False
        return True

    def evaluate(self, t: str, values: dict[str, np.ndarray]) -> np.ndarray | None:
        """The body's value in the first iteration, None where it depends on data."""
        if t in values:
            return values[t]
        if t in self.body:
            node = self.body[t]
            inputs = [self.evaluate(i, values) if i else None for i in node.inputs]
            if any(v is None and i for v, i in zip(inputs, node.inputs, strict=True)):
                return None
            with np.errstate(all="ignore"):
                values.update(
                    zip(node.outputs, OPERATORS[node.operator].evaluate(node.attributes, inputs), strict=True)
                )
            return values[t]
        if t in self.run.initial and t not in self.bound:
            type_ = self.program.types[self.run.initial[t]]
            return np.zeros(type_.shape, type_.dtype)  # the usual start; what it leads to is compared
        return self.known.get(self.bound.get(t, self.stacks[t][0] if t in self.stacks else t))


def absorb_first(
    program: Program, known: Mapping[str, np.ndarray], run: Run, stacks: Mapping[str, tuple[str, ...]]
) -> Absorbed | None:
    """The run with the one layer before it as its first iteration, or None where that one is really different."""
    segment, head = run.segment, program.segments[run.segment.first - 1]
    match = _Match(program, known, run, {name: stacks[name] for name in segment.stacked})
    if not run.initial or any(n.operator not in OPERATORS for n in segment.nodes):
        return None
    if not all(match.match(segment.carried[state], run.initial[state]) for state in run.initial):
        return None
    match.results(_read_outside(program, head.nodes, run))
    if not match.justified():
        return None
    zeros = {s: program.types[run.initial[s]] for s in run.initial if s not in match.bound}
    inverse = {found: t for t, found in match.bound.items() if t in match.body}
    moved = _still_needed(program, head.nodes, run, match, inverse)
    inverse = {found: t for found, t in inverse.items() if found in {o for n in head.nodes for o in n.outputs}}
    inverse = {found: t for found, t in inverse.items() if found not in {o for n in moved for o in n.outputs}}
    longer = Run(
        replace(segment, first=segment.first - 1, count=segment.count + 1),
        {s: match.bound.get(s, s) for s in run.initial},
        [inverse, *run.inverse],
    )
    return Absorbed(longer, {t: match.bound.get(t, stacks[t][0]) for t in segment.stacked}, moved, zeros)


def _read_outside(program: Program, head: tuple[Node, ...], run: Run) -> list[str]:
    """The layer's values that are read after the run or by the end."""
    after = (s for s in program.segments if s.first >= run.segment.first + run.segment.count)
    others = {i for s in after for n in s.nodes for i in n.inputs}
    others |= {i for n in program.end for i in n.inputs} | set(program.outputs)
    return [o for n in head for o in n.outputs if o in others]


def _still_needed(
    program: Program, head: tuple[Node, ...], run: Run, match: _Match, inverse: Mapping[str, str]
) -> tuple[Node, ...]:
    """Nodes of the layer that somebody reads beside the body's states: they move to `begin`."""
    own = {o: n for n in head for o in n.outputs}
    read = {i for n in run.segment.nodes for i in n.inputs} | {match.bound.get(s, "") for s in run.initial}
    others = _read_outside(program, head, run)
    wanted = [name for name in read if name in own] + [name for name in others if name in own and name not in inverse]
    needed: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in needed:
            needed.update(own[name].outputs)
            wanted.extend(i for i in own[name].inputs if i in own)
    return tuple(n for n in head if n.outputs[0] in needed)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if str(a.dtype) not in _TOLERANCE or not np.isfinite(b).all():
        return np.array_equal(a, b)
    return bool(np.linalg.norm((a - b).ravel()) <= _TOLERANCE[str(a.dtype)] * np.linalg.norm(b.ravel()))
