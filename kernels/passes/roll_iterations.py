"""Rolls layers that are the same computation up to constants into one loop body.

Neighbouring iterations that align node by node form a run, as long as what they read from outside can be sorted into
invariants, stacked constants and states (`outside_reads`). Afterwards values cross segment boundaries through states
only (`thread_states`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unfoldc.kernels.layers import split_into_parts
from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.absorb_first import absorb_first
from unfoldc.kernels.passes.align_layers import Alignment, align, align_shortened, dropped
from unfoldc.kernels.passes.fold_constants import known_values
from unfoldc.kernels.passes.outside_reads import CutError, OutsideReads
from unfoldc.kernels.passes.share_out import share_out
from unfoldc.kernels.passes.thread_states import KEPT, Run, SkipError, thread_states
from unfoldc.kernels.program import Node, Program, Segment, TensorType, unused_name
from unfoldc.kernels.repetition import PHASES, Stretch, cut, find_stretch

# How many layers of different kinds may take turns.
_MOST_LAYERS = 4
_UNSURE = (
    "nobody named the iterations, and what repeats begins or ends with a part of one, so that it is not certain where "
    "they end; export with a ModuleList or with the marker unfoldc.iterate"
)


def roll_iterations(program: Program, histories: bool = True) -> Program:
    """Returns the rolled program; `notes` say for each boundary that did not roll at which node and why.

    With `histories`, what the end reads of every iteration is kept in a state (see `thread_states`).

    Iterations that were only guessed must roll and hand something on; else the program counts as one iteration.
    """
    rolled = _roll(program, histories)
    if not program.guessed:
        return min((rolled, *_grouped(program, rolled, histories)), key=lambda p: len(p.segments))
    stretch = find_stretch(tuple(program.nodes()), program.types, program.outputs)
    rolled = min((rolled, *_shifted(program, stretch, histories)), key=_effort)
    if _plausible(rolled):
        even = stretch is not None and stretch.even
        return rolled if even else replace(rolled, early_stop=rolled.early_stop or _UNSURE)
    nodes = tuple(n for s in program.segments for n in s.nodes)
    whole = Segment(0, 1, tuple(replace(n, origin=replace(n.origin, iteration=None)) for n in nodes))
    return _roll(replace(program, segments=(whole,), guessed=False), histories)


def _effort(program: Program) -> tuple[int, int]:
    """Fewer bodies are better, then fewer elements handed on: between iterations less is alive than within one."""
    return len(program.segments), sum(program.types[state].size for s in program.segments for state in s.carried)


def _shifted(program: Program, stretch: Stretch | None, histories: bool) -> Iterator[Program]:
    """The program with guessed iterations that begin elsewhere."""
    nodes = tuple(program.nodes())
    for phase in PHASES[1:]:
        labels = cut(stretch, len(nodes), phase)
        if not any(label for label in labels):
            continue
        begin, layers, end = split_into_parts(list(zip(nodes, labels, strict=True)))
        segments = tuple(_joined(k, [Segment(k, 1, tuple(layer))]) for k, layer in enumerate(layers))
        yield _roll(replace(program, begin=tuple(begin), segments=segments, end=tuple(end)), histories)


def _grouped(program: Program, rolled: Program, histories: bool) -> Iterator[Program]:
    """Programs in which several layers make one iteration, such as a gradient step and a proximal one in turn."""
    most = min(_MOST_LAYERS, len(program.segments) // 2) if len(rolled.segments) > 2 else 0
    for size in range(2, most + 1):
        groups = [program.segments[k : k + size] for k in range(0, len(program.segments), size)]
        segments = tuple(_joined(k, group) for k, group in enumerate(groups))
        found = _roll(replace(program, segments=segments), histories)
        if len(found.segments) == 1 and found.iterations > 2:
            yield found


def _joined(k: int, layers: Sequence[Segment]) -> Segment:
    nodes = (n for layer in layers for n in layer.nodes)
    return Segment(k, 1, tuple(replace(n, origin=replace(n.origin, iteration=k)) for n in nodes))


def _plausible(program: Program) -> bool:
    """Whether what repeats is an iteration: one body, perhaps with another one before it, that reads its own result."""
    longest = max(program.segments, key=lambda s: s.count)
    return len(program.segments) <= 2 and longest.count > 1 and bool(longest.carried)


def _roll(program: Program, histories: bool) -> Program:
    released = _release_tail(program)
    doubt = _doubt(program, released)
    program = share_out(released)
    known = known_values(program)
    forced: dict[int, str] = {}
    while True:
        rolling = _Rolling(program, known, forced)
        rolling.find_runs()
        prepared = rolling.prepared()
        try:
            rolled = thread_states(prepared, rolling.runs, histories)
            own = doubt if any(run.segment.stacked for run in rolling.runs) else ""
            reason = rolling.doubt() or own  # a later pass may take back what histories forbid, but not this
            return replace(
                rolled, early_stop=reason if rolled.early_stop in ("", KEPT) and reason else rolled.early_stop
            )
        except SkipError as skipped:
            forced.update(skipped.reasons)


def _release_tail(program: Program) -> Program:
    """Moves into `end` what the last layer computes beyond the others: results that only the last one was asked for."""
    if len(program.segments) < 2:
        return program
    previous, last = program.segments[-2:]
    if not align_shortened(previous.nodes, last.nodes, program.types).reason:
        return program
    for kept in dropped(last.nodes, _results(program, last)):
        core = tuple(last.nodes[i] for i in kept)
        if not align_shortened(previous.nodes, core, program.types).reason:
            tail = tuple(n for i, n in enumerate(last.nodes) if i not in kept)
            segments = (*program.segments[:-1], replace(last, nodes=core))
            return replace(program, segments=segments, end=(*tail, *program.end))
    return program


def _doubt(program: Program, released: Program) -> str:
    """Why what the last layer computes beyond the others may not be right after fewer iterations; empty if it may.

    Where layers have constants of their own, what it reads there and no other layer does may be one of those: an
    exporter has dropped the others.
    """
    if len(released.end) == len(program.end):
        return ""
    tail = released.end[: len(released.end) - len(program.end)]
    read = {*program.inputs, *(i for s in released.segments for n in s.nodes for i in n.inputs)}
    own = {o for s in program.segments for n in s.nodes for o in n.outputs}
    for node in tail:
        shapes = OPERATORS[node.operator].constant_inputs if node.operator in OPERATORS else ()
        for p, name in enumerate(node.inputs):
            if name and name not in read and name not in own and p not in shapes:
                return f"{node.origin}, which only the last iteration has, reads what no other iteration does"
    return ""


def _results(program: Program, segment: Segment) -> set[str]:
    """The values of a segment that are read outside of it."""
    own = {o for n in segment.nodes for o in n.outputs}
    others = [s.nodes for s in program.segments if s is not segment]
    return own & {*program.outputs, *(i for nodes in (*others, program.end) for n in nodes for i in n.inputs)}


@dataclass
class _Rolling:
    """The runs found so far. `forced` holds the iterations at which a run must start, with the reasons."""

    program: Program
    values: Mapping[str, np.ndarray]
    forced: Mapping[int, str]
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ambiguous: bool = False

    def find_runs(self) -> None:
        """Takes the longest run at the start of what is left, until nothing is."""
        at = 0
        while at < len(self.program.segments):
            run, reason = self.longest(at)
            following = at + run.segment.count
            if following in self.forced:
                self.notes.append(f"iteration {following} starts anew: {self.forced[following]}")
            elif reason:
                self.notes.append(f"iteration {following} differs from iteration {at}: {reason}")
            self.runs.append(run)
            at = following
        self.absorb()

    def absorb(self) -> None:
        """Lets the second run take in a first layer that the exporter simplified."""
        if len(self.runs) < 2 or self.runs[0].segment.count > 1 or self.runs[1].segment.count == 1 or 1 in self.forced:
            return
        found = absorb_first(self.program, self.values, self.runs[1], self.stacks)
        if found is None:
            return
        constants, types = dict(self.program.constants), dict(self.program.types)
        for state, type_ in found.zeros.items():
            name = unused_name(f"zeros of {state}", types)
            constants[name], types[name] = np.zeros(type_.shape, type_.dtype), type_
            found.run.initial[state] = name
        self.values = {**self.values, **{n: constants[n] for n in constants if n not in self.values}}
        begin = (*self.program.begin, *found.moved)
        self.program = replace(self.program, begin=begin, constants=constants, types=types)
        self.stacks.update({t: (first, *self.stacks[t]) for t, first in found.slices.items()})
        self.runs[:2] = [found.run]
        self.notes[:1] = []

    def doubt(self) -> str:
        """Why the end may not be right after fewer iterations; empty if it is."""
        if self.ambiguous:
            return "the last iteration lacks a part, and more than one part of the others could stand for its answer"
        return ""

    def longest(self, at: int) -> tuple[Run, str]:
        """The longest run from iteration `at` on, and why it ends there."""
        alignments, reason = self.alike(at)
        while len(alignments) > 1:
            try:
                return self.body(at, alignments), reason
            except CutError as cut:
                alignments, reason = alignments[: min(cut.position, len(alignments) - 1)], str(cut)
        return Run.alone(self.program.segments[at]), reason

    def alike(self, at: int) -> tuple[list[Alignment], str]:
        """Alignments of the layers from `at` on that are the same node by node."""
        program = self.program
        template = program.segments[at]
        alignments = [align(template.nodes, template.nodes, program.types)]
        for segment in program.segments[at + 1 :]:
            if segment.first in self.forced:
                return alignments, ""
            last = segment.first == program.iterations - 1
            found = (align_shortened if last else align)(template.nodes, segment.nodes, program.types)
            self.ambiguous = self.ambiguous or found.ambiguous
            if found.reason:
                return alignments, found.reason
            alignments.append(found)
        return alignments, ""

    def body(self, at: int, alignments: Sequence[Alignment]) -> Run:
        """The run over these layers; raises CutError where it must be shorter."""
        template = self.program.segments[at].nodes
        inside = {o for n in template for o in n.outputs}
        read = {
            (i, p): tuple(a.inputs[(i, p)] for a in alignments if i not in a.missing)
            for i, node in enumerate(template)
            for p, name in enumerate(node.inputs)
            if name not in inside
        }
        inverse = [{v: t for t, v in a.values.items()} for a in alignments]
        outside = OutsideReads(self.program, self.values, at, inverse, read.values())
        known = set(self.values)
        nodes: list[Node] = []
        for i, node in enumerate(template):
            inputs = tuple(outside.name(read[i, p]) if (i, p) in read else n for p, n in enumerate(node.inputs))
            known.update(outside.stacked.values())
            if all(name in known or not name for name in inputs):
                known.update(node.outputs)  # folded later, slice by slice
            else:
                _check_shapes(node, inputs, {p: read[i, p] for p in range(len(inputs)) if (i, p) in read})
            nodes.append(replace(node, inputs=inputs))
        stacked = {name: parts for parts, name in outside.stacked.items()}
        self.stacks.update(stacked)
        segment = Segment(at, len(alignments), tuple(nodes), outside.next_value, frozenset(stacked))
        return Run(segment, outside.initial, inverse)

    def prepared(self) -> Program:
        """The program with the stacked constants and the notes."""
        constants, types = dict(self.program.constants), dict(self.program.types)
        for name, parts in self.stacks.items():
            constants[name] = np.stack([self.values[p] for p in parts])
            types[name] = TensorType(str(constants[name].dtype), constants[name].shape[1:])
        return replace(self.program, constants=constants, types=types, notes=tuple(self.notes))


def _check_shapes(node: Node, inputs: Sequence[str], read: Mapping[int, tuple[str, ...]]) -> None:
    """Raises CutError where an input that shapes the result, a slice's start say, changes between iterations."""
    operator = OPERATORS.get(node.operator)  # the nodes of another back end are not in the table
    for p in operator.constant_inputs if operator else ():
        if p < len(inputs) and p in read and len(set(read[p])) > 1:
            k = next(k for k, name in enumerate(read[p]) if name != read[p][0])
            raise CutError(k, f"{node.origin} takes another part or shape")
