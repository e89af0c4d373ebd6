"""Makes every value that crosses a segment boundary a state, so that segments depend on each other in no other way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from unfoldc.kernels.program import Node, Origin, Program, Segment, State, TensorType, unused_name

KEPT = "the answer is made from what all iterations leave"


@dataclass
class Run:
    """A segment to be, whose `carried` holds the states it found itself.

    `initial[state]` is the value that such a state holds before the run; `inverse[k]` maps values of the k-th layer to
    those of the body.
    """

    segment: Segment
    initial: dict[str, str]
    inverse: Sequence[Mapping[str, str]]

    @staticmethod
    def alone(segment: Segment) -> Run:
        """The run of one iteration that is like no other."""
        return Run(segment, {}, [{o: o for n in segment.nodes for o in n.outputs}])


class SkipError(ValueError):
    """Values skip over iterations of their run: runs must start at the iterations `reasons`, for what they say."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = dict(reasons)


@dataclass
class _Threader:
    program: Program
    runs: Sequence[Run]
    initial: dict[str, str] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    carried: list[dict[str, str]] = field(default_factory=list)
    histories: dict[str, str] = field(default_factory=dict)
    joining: set[str] = field(default_factory=set)
    made_in: dict[str, tuple[int, int]] = field(default_factory=dict)
    zeros: dict[TensorType, str] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    kept: list[dict[str, str]] = field(default_factory=list)
    slots: dict[str, Node] = field(default_factory=dict)
    unsure: str = ""

    def __post_init__(self) -> None:
        self.types, self.constants = dict(self.program.types), dict(self.program.constants)
        self.carried = [dict(run.segment.carried) for run in self.runs]
        self.kept = [{} for _ in self.runs]
        for r, run in enumerate(self.runs):
            for layer, inverse in enumerate(run.inverse):
                self.made_in.update(dict.fromkeys(inverse, (r, layer)))

    def enter(self, r: int) -> None:
        """Creates the states that run `r` found; earlier segments set them where they make the first content."""
        for state, first in self.runs[r].initial.items():
            maker = self.made_in.get(first)
            self.add_state(state, self.types[first], None if maker else first)
            if maker:
                self.carried[maker[0]][state] = self.left(first)

    def read(self, name: str, reader: int, joins: bool = False) -> str:
        """The name under which segment `reader` (or the end, numbered last) sees a value.

        `joins` says that the reader makes something of several iterations' values. To others the last iteration's is
        the answer, which after fewer iterations is the state, not the slot that nobody filled.
        """
        if name not in self.made_in or self.made_in[name][0] == reader:
            return name
        maker, layer = self.made_in[name]
        last = layer == self.runs[maker].segment.count - 1
        if reader == len(self.runs) and name in self.histories and (joins or not last):
            return self.slot(name)
        content = self.left(name)
        fits = [s for s, v in self.carried[maker].items() if v == content and self.lives(s, maker, reader)]
        if fits:
            self.compare(name, fits, maker, reader)
            return fits[0]
        state = unused_name(f"state {self.runs[maker].segment.first}.{len(self.carried[maker])}", self.types)
        # A value that waits starts as what it waits for does.
        self.add_state(state, self.types[name], self.initial.get(content))
        self.carried[maker][state] = content
        return state

    def keep_histories(self) -> None:
        """Finds the values of which the end reads at least every other iteration's: they are kept, slot by slot.

        The last two are there without, in states, unless they are all that there are or are joined.
        """
        read = {i for n in self.program.end for i in n.inputs} | set(self.program.outputs)
        readers: dict[tuple[int, str], set[str]] = {}
        for name in sorted(read & self.made_in.keys()):
            r, layer = self.made_in[name]
            readers.setdefault((r, self.runs[r].inverse[layer][name]), set()).add(name)
        for (r, value), names in readers.items():
            count = self.runs[r].segment.count
            layers = [self.made_in[n][1] for n in names]
            early = [layer for layer in layers if layer < count - 1]
            if early == [count - 2] and count > 2 and not self.joins(names):
                continue
            if early and 2 * len(early) >= count - 1 and len(set(layers)) == len(names):
                self.histories.update(dict.fromkeys(names, value))
        self.joining = self.joins(self.histories)

    def joins(self, names: Iterable[str]) -> set[str]:
        """Values of the end that are made from several of these, and what leads to them."""
        behind: dict[str, set[str]] = {name: {name} for name in names}
        for node in self.program.end:
            found = set().union(*(behind.get(i, set()) for i in node.inputs))
            behind.update(dict.fromkeys(node.outputs, set(islice(found, 2))))  # whether there is more than one
        joins = {o for node in self.program.end for o in node.outputs if len(behind[o]) > 1}
        for node in reversed(self.program.end):
            if any(o in joins for o in node.outputs):
                joins.update(node.inputs)
        return joins

    def slot(self, name: str) -> str:
        """The end's name for a value that is kept: an element of its history."""
        if name in self.slots:
            return self.slots[name].outputs[0]
        r, layer = self.made_in[name]
        segment, value, type_ = self.runs[r].segment, self.histories[name], self.types[name]
        history = next((h for h, v in self.kept[r].items() if v == value), "")
        if not history:
            history = unused_name(f"history {segment.first}.{len(self.kept[r])}", self.types)
            self.add_state(history, TensorType(type_.dtype, (segment.count, *type_.shape)), None)
            self.kept[r][history] = value
        place, slot = unused_name(f"{history} position {layer}", self.types), unused_name(f"{name} (kept)", self.types)
        self.constants[place], self.types[place] = np.array(layer, np.int64), TensorType("int64", ())
        self.types[slot] = type_
        origin = Origin(f"{history} {layer}", "Gather")
        self.slots[name] = Node("Gather", (history, place), (slot,), {"axis": 0}, origin)
        return slot

    def left(self, name: str) -> str:
        """What holds a value when its run ends: a value of the body, or for one of the last layer but one a state."""
        maker, layer = self.made_in[name]
        run = self.runs[maker]
        body_name = run.inverse[layer][name]
        if layer == run.segment.count - 1:
            return body_name
        fits = [s for s in run.initial if layer == run.segment.count - 2 and run.segment.carried[s] == body_name]
        if fits:
            self.compare(name, fits, maker, len(self.runs))
            return fits[0]
        k = run.segment.first + layer
        self.skipped[k + 1] = f"{name!r}, a value of iteration {k}, is used after later iterations"
        return body_name

    def compare(self, name: str, states: Sequence[str], maker: int, reader: int) -> None:
        """Notes that the end cannot tell what such a value is after fewer iterations, where the states differ."""
        before = {(self.initial[s], *(c.get(s) for c in self.carried[:maker])) for s in states}
        waits = self.made_in[name][1] < self.runs[maker].segment.count - 1
        if reader == len(self.runs) and len(before) > 1 and (maker or waits):
            self.unsure = f"{name!r}, which the answer is made from, had several values at first"

    def lives(self, state: str, maker: int, reader: int) -> bool:
        """Whether no segment between overwrites the state, nor the reader if it reads more than once."""
        last = reader + (reader < len(self.runs) and self.runs[reader].segment.count > 1)
        return all(state not in self.carried[r] for r in range(maker + 1, min(last, len(self.runs))))

    def add_state(self, state: str, type_: TensorType, initial: str | None) -> None:
        """A new state, of zeros where `begin` has no content for it."""
        if initial is None:
            initial = self.zeros.get(type_) or unused_name(f"zeros {type_.dtype}{list(type_.shape)}", self.types)
            self.zeros[type_] = initial
            self.constants[initial], self.types[initial] = np.zeros(type_.shape, type_.dtype), type_
        self.types[state], self.initial[state] = type_, initial


def thread_states(program: Program, runs: Sequence[Run], histories: bool = True) -> Program:
    """Builds the rolled program from the runs; raises SkipError if a value skips over iterations of a run.

    With `histories`, values that the end reads of (nearly) every iteration are kept in a state with a slot for each.
    """
    threader = _Threader(program, runs)
    if histories:
        threader.keep_histories()
    for r in range(len(runs)):
        threader.enter(r)

    def nodes(old: Sequence[Node], reader: int) -> tuple[Node, ...]:
        joins = [any(o in threader.joining for o in n.outputs) for n in old]
        return tuple(
            replace(n, inputs=tuple(threader.read(i, reader, join) for i in n.inputs))
            for n, join in zip(old, joins, strict=True)
        )

    bodies = [nodes(run.segment.nodes, r) for r, run in enumerate(runs)]
    end = nodes(program.end, len(runs))
    outputs = tuple(threader.read(o, len(runs)) for o in program.outputs)
    if threader.skipped:
        raise SkipError(threader.skipped)
    segments = tuple(
        replace(run.segment, nodes=body, carried=carried, kept=kept)
        for run, body, carried, kept in zip(runs, bodies, threader.carried, threader.kept, strict=True)
    )
    rolled = replace(
        program,
        constants=threader.constants,
        types=threader.types,
        segments=segments,
        end=(*threader.slots.values(), *end),
        outputs=outputs,
        states=tuple(State(name, first) for name, first in threader.initial.items()),
        rolled=True,
    )
    return replace(rolled, early_stop=threader.unsure or _early_stop(rolled))


def _early_stop(program: Program) -> str:
    """Why the answer cannot be read before the last iteration; empty if it can."""
    names = {s.name for s in program.states}
    read = {i for n in program.end for i in n.inputs if i in names} | {o for o in program.outputs if o in names}
    for segment in program.segments:
        if read - {*segment.carried, *segment.kept}:
            return (
                f"the answer is made from a value that iteration {segment.first} does not update; "
                "iterations that differ from the others have no common estimate"
            )
    return KEPT if any(s.kept for s in program.segments) else ""
