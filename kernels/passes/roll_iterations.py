"""Rolls layers that are the same computation up to constants into one loop body.

Neighbouring iterations that align node by node form a run. What a run reads from outside falls into three classes, by
the sequence of values that stand at one place over the iterations: the same value each time (invariant), constants of
one type (stacked, one slice per iteration), or each time a value of the iteration before (carried: a state). What
matches none of these ends the run. Afterwards values cross segment boundaries through states only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unfoldc.kernels.passes.align_layers import Alignment, align
from unfoldc.kernels.passes.thread_states import Run, thread_states
from unfoldc.kernels.program import Node, Program, Segment, TensorType


@dataclass
class _Slots:
    """The classes of a run's outside values, keyed by the sequence of names that stands there."""

    program: Program
    layers: Sequence[Segment]
    alignments: Sequence[Alignment]
    inverse: list[dict[str, str]] = field(default_factory=list)
    carried: dict[tuple[str, ...], str] = field(default_factory=dict)
    next_value: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)
    stacked: dict[tuple[str, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inverse = [{v: t for t, v in a.values.items()} for a in self.alignments]

    def outside(self, name: str, position: int) -> bool:
        """Whether a value is made neither by this layer of the run nor by a later one."""
        return not any(name in inverse for inverse in self.inverse[position:])

    def classify(self, names: tuple[str, ...]) -> str:
        """The name under which the body reads this sequence; raises ValueError with the reason if it cannot."""
        if len(set(names)) == 1 and (names[0] == "" or self.outside(names[0], 0)):
            return names[0]
        constants = [self.program.constants.get(name) for name in names]
        known = [c for c in constants if c is not None]
        if len(known) == len(names):
            return self.stack(names, known)
        return self.carry(names)

    def stack(self, names: tuple[str, ...], values: list[np.ndarray]) -> str:
        kinds = {(str(v.dtype), v.shape) for v in values}
        if len(kinds) > 1:
            k = next(i for i, v in enumerate(values) if v.shape != values[0].shape or v.dtype != values[0].dtype)
            raise _CutError(k, f"constant {names[k]!r} is {values[k].dtype}{list(values[k].shape)}, its counterpart "
                          f"{names[0]!r} is {values[0].dtype}{list(values[0].shape)}")  # fmt: skip
        if names not in self.stacked:
            self.stacked[names] = f"{names[0]} (stacked {self.layers[0].first}+{len(names)})"
        return self.stacked[names]

    def carry(self, names: tuple[str, ...]) -> str:
        for key, state in self.carried.items():
            if key[: len(names)] == names:
                return state
        first = self.layers[0].first
        state = f"state {first}.{len(self.carried)}"
        if not self.outside(names[0], 0):
            raise _CutError(1, f"{names[0]!r} is read in the iteration that makes it later")
        self.carried[names] = state
        self.initial[state] = names[0]
        twins = [self.inverse[k].get(name) for k, name in enumerate(names[1:])]
        if len(names) == 1:
            raise _CutError(1, "only one iteration reads it")
        if all(t is not None and t == twins[0] for t in twins):
            self.next_value[state] = str(twins[0])
        elif all(t is None for t in twins):
            # A value of two iterations ago: it has waited one iteration in a state of its own.
            if len(names) < 3:
                raise _CutError(1, f"{names[1]!r} comes from outside, {names[0]!r} too, and they differ")
            self.next_value[state] = self.classify(names[1:])
        else:
            k = next(i for i, t in enumerate(twins) if t != twins[0])
            raise _CutError(k + 1, f"{names[k + 1]!r} is not what {names[1]!r} is in its iteration")
        return state


class _CutError(ValueError):
    """The run must end before its `position`-th layer."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = max(position, 1)


def roll_iterations(program: Program) -> Program:
    """Returns the rolled program; `notes` say for each boundary that did not roll at which node and why."""
    runs: list[Run] = []
    notes: list[str] = []
    stacks: dict[str, tuple[str, ...]] = {}
    at = 0
    while at < len(program.segments):
        run, used, reason = _longest_run(program, at, stacks)
        if reason:
            notes.append(f"iteration {at + used} differs from iteration {at}: {reason}")
        runs.append(run)
        at += used
    constants, types = dict(program.constants), dict(program.types)
    for name, parts in stacks.items():
        constants[name] = np.stack([program.constants[p] for p in parts])
        types[name] = TensorType(str(constants[name].dtype), constants[name].shape[1:])
    return thread_states(replace(program, constants=constants, types=types, notes=tuple(notes)), runs)


def _longest_run(program: Program, at: int, stacks: dict[str, tuple[str, ...]]) -> tuple[Run, int, str]:
    template = program.segments[at]
    alignments = [align(template.nodes, template.nodes, False)]
    reason = ""
    for segment in program.segments[at + 1 :]:
        last = segment.first == len(program.segments) - 1
        found = align(template.nodes, segment.nodes, last)
        if found.reason:
            reason = found.reason
            break
        alignments.append(found)
    count = len(alignments)
    while count > 1:
        try:
            return _body(program, at, alignments[:count], stacks), count, reason
        except _CutError as cut:
            count, reason = min(cut.position, count - 1), str(cut)
    return Run(template, {}, {}, [{}]), 1, reason


def _body(program: Program, at: int, alignments: list[Alignment], stacks: dict[str, tuple[str, ...]]) -> Run:
    layers = program.segments[at : at + len(alignments)]
    slots = _Slots(program, layers, alignments)
    inside = {o for n in layers[0].nodes for o in n.outputs}
    nodes: list[Node] = []
    for i, node in enumerate(layers[0].nodes):
        inputs = []
        for p, name in enumerate(node.inputs):
            if name in inside:
                inputs.append(name)
                continue
            present = tuple(a.inputs[(i, p)] for a in alignments if i not in a.missing)
            if len(present) < len(alignments) and len(set(present)) > 1 and present[0] in program.constants:
                present = (*present, present[-1])  # an iteration that does not need it may have any slice
            inputs.append(slots.classify(present))
        nodes.append(replace(node, inputs=tuple(inputs)))
    stacks.update({name: parts for parts, name in slots.stacked.items()})
    segment = Segment(at, len(alignments), tuple(nodes), dict(slots.next_value), frozenset(slots.stacked.values()))
    return Run(segment, slots.initial, slots.next_value, slots.inverse)
