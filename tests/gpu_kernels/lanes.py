"""Runs a mapped kernel lane by lane, in any order between barriers, and finds lanes that meet where they must not.

Each lane runs on its own to its next barrier before another one moves. Memory that lanes share is watched: two lanes
that touch one element between two barriers, one of them to write, are a race, whatever the order was. What a lane keeps
to itself reads as NaN in every other lane.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels.gpu.mapping import Mapped, all_leaves
from unfoldc.kernels.gpu.parts import LANE, All, Barrier, Combine, InStep, One, Part, Settle, Share, Work
from unfoldc.kernels.gpu.places import GIVEN
from unfoldc.kernels.interpret_loops import Machine, _poison
from unfoldc.kernels.loops import ITERATION, Assign, Let, Store

SETTLE = "settle"
ORDERS = ("forwards", "backwards", "random")


Steps = Generator[Any, Any, None]


class RaceError(Exception):
    """Two lanes met."""


class Shared:
    """A buffer that all lanes reach; knows who touched which element since the last barrier.

    Lanes of one warp do not meet where they waited for each other in between: `settled` counts how often that was.
    Whatever is written destroys what lies in the same place, in `others`.
    """

    def __init__(self, name: str, values: np.ndarray, watched: bool) -> None:
        self.name, self.values, self.watched = name, values, watched
        self.readers: dict[Any, set[tuple[int, int]]] = {}
        self.writers: dict[Any, set[tuple[int, int]]] = {}
        self.lane, self.settled = 0, 0
        self.others: list[Shared] = []

    def __getitem__(self, at: Any) -> Any:
        self.readers.setdefault(at, set()).add((self.lane, self.settled))
        self._check(at, self.writers.get(at, set()))
        return self.values[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        self.writers.setdefault(at, set()).add((self.lane, self.settled))
        self._check(at, self.writers[at] | self.readers.get(at, set()))
        self.values[at] = value
        for other in self.others:
            other.values[...] = _poison(other.values.dtype.name, other.values.size).reshape(other.values.shape)

    def _check(self, at: Any, touched: set[tuple[int, int]]) -> None:
        for other in self.others:
            touched = touched.union(*other.readers.values(), *other.writers.values())
        for lane, settled in touched:
            waited = lane // 32 == self.lane // 32 and settled != self.settled
            if lane != self.lane and not waited and self.watched:
                raise RaceError(f"lanes {lane} and {self.lane} meet at {self.name}{list(at)}")

    def forget(self) -> None:
        self.readers.clear()
        self.writers.clear()
        self.settled = 0


class Lane:
    """One lane: its memory and its scalars."""

    def __init__(
        self, mapped: Mapped, number: int, count: int, memory: Mapping[str, Any], private: set[str], functions: Any
    ) -> None:
        self.mapped, self.number, self.count = mapped, number, count
        self.machine = Machine(mapped.program, {n: memory[n].values for n in mapped.program.inputs})
        self.machine.functions = functions  # one set for all lanes
        self.machine.program = _with_buffers(mapped)
        self.private, self.memory = private, memory
        self.staged = {name: memory[name].values.copy() for name in mapped.staging.over.values()}
        self.machine.memory = {
            n: _poison(b.dtype, b.size).reshape(b.shape) if n in private else memory[n]
            for n, b in mapped.buffers.items()
            if n in private or n in memory
        }

    def run(self, iterations: int, problems: int) -> Steps:
        """All parts; yields None at a barrier, else the scalar to be combined and the team, and takes the result."""
        mapped, scalars = self.mapped, dict[str, Any]()
        yield from self.parts(mapped.once, scalars)
        yield None
        yield from self.parts(mapped.own, scalars)
        staging = mapped.staging
        for _ in range(problems):
            if staging.inputs or staging.outputs:
                yield None
            if self.number == 0:
                for name, values in self.staged.items():
                    self.memory[name].values[...] = values
            if staging.inputs:
                yield None
            yield from self.parts(mapped.load, scalars)
            yield from self.parts(mapped.begin, scalars)
            for step in mapped.steps:
                for k in range(step.first, min(step.first + step.count, iterations)):
                    yield from self.parts(step.parts, scalars | {ITERATION: np.int32(k)})
            yield from self.parts(mapped.end, scalars)
            if staging.outputs:
                yield None

    def parts(self, parts: Sequence[Part], scalars: dict[str, Any]) -> Steps:
        for part in parts:
            if isinstance(part, Barrier):
                yield None
            elif isinstance(part, InStep):
                extent = part.extent if isinstance(part.extent, int) else int(self.machine.value(part.extent, scalars))
                for i in range(extent):
                    yield from self.parts(part.body, _setting(scalars, part.variable, np.int32(i)))
            elif isinstance(part, All):
                yield from self.body(part.body, _setting(scalars, LANE, np.int32(self.number)), self.number == 0)
            elif isinstance(part, One) and self.number == self.doer(part):
                yield from self.body(part.body, dict(scalars), True)
            elif isinstance(part, Share):
                yield from self.share(part, scalars)

    def doer(self, part: One) -> int:
        return (self.count - 1 - part.chain) % self.count if self.mapped.choices.is_grid else 0

    def share(self, part: Share, scalars: dict[str, Any]) -> Steps:
        teams, team = self.count // part.team, self.number // part.team
        runs = part.runs if isinstance(part.runs, int) else int(self.machine.value(part.runs, scalars))
        together = any(isinstance(s, Combine | Settle) for s in part.body)
        for start in range(0, runs, teams):
            e = start + team
            if e >= runs and not together:
                continue
            own = dict(scalars) | {LANE: np.int32(self.number % part.team)}
            place = e
            for variable, extent in reversed(list(zip(part.variables, part.extents, strict=True))):
                n = extent if isinstance(extent, int) else runs
                own[variable] = np.int32(place % n)
                place //= n
            yield from self.body(part.body, own, self.number % part.team == 0, e < runs)

    def body(self, body: Sequence[Work], scalars: dict[str, Any], first: bool, mine: bool = True) -> Steps:
        with np.errstate(all="ignore"):
            for s in body:
                if isinstance(s, Settle):
                    yield SETTLE
                elif isinstance(s, Combine):
                    zero = np.dtype(s.dtype).type(0)
                    scalars[s.name] = yield s.operator, scalars[s.name] if mine else zero, s.team
                elif not mine:
                    continue
                elif isinstance(s, Let | Assign):
                    scalars[s.name] = self.machine.value(s.value, scalars)
                    self.machine.mutable.add(s.name)
                elif isinstance(s, Store) and not (first or s.buffer in self.private):
                    self.machine.value(s.value, scalars)
                else:
                    self.machine.statement(s, scalars)


def _setting(scalars: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The same scalars, one of them set: what a part declares is seen by those after it."""
    scalars[name] = value
    return scalars


def _with_buffers(mapped: Mapped) -> Any:
    from dataclasses import replace

    return replace(mapped.program, buffers={**mapped.buffers, **_writable(mapped)})


def _writable(mapped: Mapped) -> dict[str, Any]:
    """Copies of inputs and constants may be written."""
    from dataclasses import replace

    copied = [n for n in mapped.program.buffers if GIVEN + n in mapped.buffers]
    return {n: replace(mapped.buffers[n], space="state") for n in copied}


def run_lanes(
    mapped: Mapped,
    inputs: Mapping[str, np.ndarray],
    iterations: int | None = None,
    order: str = "forwards",
    problems: int = 1,
    grid: int = 8,
    seed: int = 0,
    watched: bool = True,
) -> dict[str, np.ndarray]:
    """The outputs for one problem, solved `problems` times in a row by one group, the grid's of at least `grid` lanes.

    Raises RaceError where lanes meet, if memory is `watched`, and AssertionError where they come to different barriers.
    """
    program = mapped.program
    count = mapped.choices.group or max([grid, *(p.team for p in all_leaves(mapped) if isinstance(p, Share))])
    k = program.iterations if iterations is None else iterations
    private = {n for n, p in mapped.places.items() if p.is_private}
    memory: dict[str, Shared] = {}
    for name, buffer in mapped.buffers.items():
        plain = name.removeprefix(GIVEN) if name not in program.buffers else name
        given = name != plain or GIVEN + name not in mapped.buffers
        if buffer.space == "input" and given:
            values = np.array(inputs[plain], buffer.dtype).reshape(buffer.shape)
        elif buffer.space == "constant" and given:
            values = program.constants[plain].copy()
        else:
            values = _poison(buffer.dtype, buffer.size).reshape(buffer.shape)
        memory[name] = Shared(name, values, watched)
    for name, place in mapped.staging.over.items():
        memory[name].others, memory[place].others = [memory[place]], [memory[name]]
    functions = dict[Any, Any]()
    lanes = [Lane(mapped, i, count, memory, private, functions) for i in range(count)]
    chooser = random.Random(seed)
    runs = [lane.run(k, problems) for lane in lanes]
    answers: list[Any] = [None] * count
    while True:
        said: list[Any] = [None] * count
        ended = 0
        turns = list(range(count))
        if order == "backwards":
            turns.reverse()
        elif order == "random":
            chooser.shuffle(turns)
        for i in turns:
            for shared in memory.values():
                shared.lane = i
            try:
                said[i] = runs[i].send(answers[i])
            except StopIteration:
                ended += 1
        if ended:
            assert ended == count, "some lanes end where others wait"
            return {name: memory[name].values.copy() for name in program.outputs}
        answers = _answers(said)
        if said[0] == SETTLE:
            for shared in memory.values():
                shared.settled += 1
        elif said[0] is None:
            for shared in memory.values():
                shared.forget()


def _answers(said: Sequence[Any]) -> list[Any]:
    """What the lanes that wait for each other get: nothing from a barrier, else what their team combined."""
    if said[0] is None or said[0] == SETTLE:
        assert len(set(said)) == 1, "lanes wait at different places"
        return [None] * len(said)
    operator, _, team = said[0]
    assert all((s[0], s[2]) == (operator, team) for s in said if s), "lanes wait at different places"
    values = [s[1] for s in said]
    by = 1
    while by < team:
        with np.errstate(all="ignore"):
            values = [_OPERATORS[operator](v, values[i ^ by]) for i, v in enumerate(values)]
        by *= 2
    return values


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"add": lambda a, b: a + b, "max": np.maximum, "min": np.minimum}
