"""Makes every value that crosses a segment boundary a state, so that segments depend on each other in no other way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from unfoldc.kernels.program import Node, Program, Segment, State, TensorType


@dataclass
class Run:
    """A segment to be, with the states it found itself.

    `initial[state]` is the value that the state holds before the run, `next_value[state]` the body's value that it
    holds after each iteration; `inverse[k]` maps values of the k-th layer to those of the body.
    """

    segment: Segment
    initial: Mapping[str, str]
    next_value: Mapping[str, str]
    inverse: list[dict[str, str]]


@dataclass
class _Threader:
    program: Program
    runs: list[Run]
    initial: dict[str, str] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    carried: list[dict[str, str]] = field(default_factory=list)
    made_in: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types, self.constants = dict(self.program.types), dict(self.program.constants)
        self.carried = [dict(run.segment.carried) for run in self.runs]
        for r, run in enumerate(self.runs):
            own = {o for n in run.segment.nodes for o in n.outputs}
            for layer, inverse in enumerate(run.inverse):
                for name in inverse or dict.fromkeys(own):
                    self.made_in[name] = (r, layer)

    def read(self, name: str, reader: int) -> str:
        """The name under which segment `reader` (or the end, numbered last) sees a value."""
        if name not in self.made_in or self.made_in[name][0] == reader:
            return name
        maker, layer = self.made_in[name]
        run = self.runs[maker]
        if layer != run.segment.count - 1:
            raise ValueError(
                f"{name!r}, a value of iteration {run.segment.first + layer}, is used after later iterations"
            )
        body_name = run.inverse[layer].get(name, name)
        for state, value in self.carried[maker].items():
            if value == body_name and self.lives(state, maker, reader):
                return state
        state = f"state {run.segment.first}.{len(self.carried[maker])}"
        self.add_state(state, self.types[name], self.zeros(self.types[name]))
        self.carried[maker][state] = body_name
        return state

    def lives(self, state: str, maker: int, reader: int) -> bool:
        """Whether no segment between overwrites the state."""
        return all(state not in self.carried[r] for r in range(maker + 1, min(reader, len(self.runs))))

    def add_state(self, state: str, type_: TensorType, initial: str) -> None:
        self.types[state] = type_
        self.initial[state] = initial

    def zeros(self, t: TensorType) -> str:
        name = f"zeros {t.dtype}{list(t.shape)}"
        self.constants[name] = np.zeros(t.shape, t.dtype)
        self.types[name] = t
        return name

    def enter(self, r: int) -> None:
        """Creates the states that run `r` found; earlier segments set them where they make the first content."""
        for state, first in self.runs[r].initial.items():
            t = self.types[first]
            if first in self.made_in:
                maker, layer = self.made_in[first]
                body_name = self.runs[maker].inverse[layer].get(first, first)
                if layer != self.runs[maker].segment.count - 1:
                    raise ValueError(f"{first!r} is used after later iterations")
                self.add_state(state, t, self.zeros(t))
                self.carried[maker][state] = body_name
            else:
                self.add_state(state, t, first)


def thread_states(program: Program, runs: list[Run]) -> Program:
    """Builds the rolled program from the runs; raises ValueError if a value skips over iterations of a run."""
    threader = _Threader(program, runs)
    for r in range(len(runs)):
        threader.enter(r)
    bodies: list[tuple[Node, ...]] = []
    for r, run in enumerate(runs):
        bodies.append(tuple(replace(n, inputs=tuple(threader.read(i, r) for i in n.inputs)) for n in run.segment.nodes))
    last = len(runs)
    end = tuple(replace(n, inputs=tuple(threader.read(i, last) for i in n.inputs)) for n in program.end)
    outputs = tuple(threader.read(o, last) for o in program.outputs)
    segments = tuple(
        replace(run.segment, nodes=nodes, carried=threader.carried[r])
        for r, (run, nodes) in enumerate(zip(runs, bodies, strict=True))
    )
    states = tuple(State(name, first) for name, first in threader.initial.items())
    rolled = replace(
        program,
        constants=threader.constants,
        types=threader.types,
        segments=segments,
        end=end,
        outputs=outputs,
        states=states,
        rolled=True,
    )
    return replace(rolled, early_stop=_early_stop(rolled))


def _early_stop(program: Program) -> str:
    """Why the answer cannot be read before the last iteration; empty if it can."""
    names = {s.name for s in program.states}
    read = {i for n in program.end for i in n.inputs if i in names} | {o for o in program.outputs if o in names}
    for segment in program.segments:
        absent = sorted(read - set(segment.carried))
        if absent:
            return (
                f"the answer is made from a value that iteration {segment.first} does not update; "
                "iterations that differ from the others have no common estimate"
            )
    return ""
