"""Loop program -> kernel: parts with their barriers, and places for all buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from unfoldc.kernels.gpu.barriers import Touched, loop_with_barriers, with_barriers
from unfoldc.kernels.gpu.choices import GRID, GRID_LANES, GpuChoices
from unfoldc.kernels.gpu.copies import copy_parts
from unfoldc.kernels.gpu.distribute import Lanes, distribute
from unfoldc.kernels.gpu.grid_order import fewest_barriers
from unfoldc.kernels.gpu.owners import Access, accesses
from unfoldc.kernels.gpu.parts import All, InStep, One, Part, Parts, Share, leaves, writes
from unfoldc.kernels.gpu.placement import place_buffers
from unfoldc.kernels.gpu.places import GIVEN, Place, Region
from unfoldc.kernels.gpu.staging import Staging
from unfoldc.kernels.index_bounds import Ranges
from unfoldc.kernels.loops import ITERATION, Buffer, LoopProgram, Stmt


@dataclass(frozen=True)
class MappedStep:
    """The iterations `first .. first + count - 1` run `parts`."""

    first: int
    count: int
    parts: Parts


@dataclass(frozen=True)
class Mapped:
    """A kernel: what runs once, what runs for each problem, and where the buffers are.

    `once` is dealt out to all lanes of the block, which then wait for each other; `own` is what each lane then loads
    for itself. For each problem the block first brings the inputs of `staging` to shared memory, where the place of the
    caller's array is then; `load`, `begin`, the steps and `end` run, and the block takes its outputs away. Buffers
    whose name starts with `GIVEN` are the caller's arrays of those that have a copy elsewhere.
    """

    program: LoopProgram
    choices: GpuChoices
    buffers: Mapping[str, Buffer]
    places: Mapping[str, Place]
    shared: Region
    workspace: Region
    once: Parts
    own: Parts
    load: Parts
    begin: Parts
    steps: tuple[MappedStep, ...]
    end: Parts
    staging: Staging = Staging()

    @property
    def copied(self) -> frozenset[str]:
        """Inputs and constants that have a copy elsewhere than where the caller, or the block, has them."""
        return frozenset(n for n in self.program.buffers if GIVEN + n in self.buffers)


@dataclass
class Mapper:
    """Maps a program onto groups of lanes; the inputs and outputs `unbatched` are the same for all problems.

    A memory plan of the program counts for nothing: no two buffers share a place. What is dealt out to whom hangs on
    the size of a group alone, and is found once for each.
    """

    program: LoopProgram
    unbatched: frozenset[str] = frozenset()
    _dealt: dict[int, _Dealt] = field(default_factory=dict)

    def __call__(self, choices: GpuChoices) -> Mapped:
        """The kernel that these choices make."""
        if choices.group not in self._dealt:
            self._dealt[choices.group] = _dealt(self.program, choices.group)
        return _placed(self.program, self._dealt[choices.group], choices, self.unbatched)


def map_program(program: LoopProgram, choices: GpuChoices, unbatched: frozenset[str] = frozenset()) -> Mapped:
    """The kernel that these choices make of a program."""
    return Mapper(program, unbatched)(choices)


_Dealt = tuple[Parts, list[MappedStep], Parts]
"""What lanes do in begin, in the steps and in end."""


def _dealt(program: LoopProgram, group: int) -> _Dealt:
    lanes = Lanes(group, group or GRID_LANES)

    def dealt(body: Sequence[Stmt], ranges: Ranges) -> Parts:
        parts = distribute(body, lanes, ranges)
        return fewest_barriers(parts, program.buffers) if group == GRID else parts

    steps = [
        MappedStep(s.first, s.count, dealt(s.body, {ITERATION: (s.first, s.first + s.count - 1)}))
        for s in program.steps
    ]
    return dealt(program.begin, {}), steps, dealt(program.end, {})


def _placed(program: LoopProgram, dealt: _Dealt, choices: GpuChoices, unbatched: frozenset[str]) -> Mapped:
    """The parts with places for the buffers that they touch, and barriers."""
    begin, steps, end = dealt
    placed = place_buffers(program, choices, unbatched, begin, [s.parts for s in steps], end)
    alike = frozenset(n for n, p in placed.places.items() if p.kind == "copy") if choices.group != 1 else frozenset()
    buffers = dict(program.buffers)
    for name in placed.copied:
        buffers[GIVEN + name] = replace(buffers[name], name=GIVEN + name)
    once, own, load = copy_parts(program, placed, choices)
    mapped = Mapped(
        program, choices, buffers, {**{GIVEN + n: Place("given") for n in placed.copied}, **placed.places},
        placed.shared, placed.workspace, once, own, load, _alike(begin, alike),
        tuple(replace(s, parts=_alike(s.parts, alike)) for s in steps), _alike(end, alike), placed.staging,
    )  # fmt: skip
    return _waiting(mapped) if choices.group != 1 else mapped


def _alike(parts: Parts, names: frozenset[str]) -> Parts:
    """What lane 0 does alone for buffers that each lane has a copy of is done by all."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, InStep):
            part = replace(part, body=_alike(part.body, names))
        elif isinstance(part, One) and writes(part.body) & names:
            part = All(part.body)
        result.append(part)
    return tuple(result)


def _waiting(mapped: Mapped) -> Mapped:
    """The kernel with barriers; a problem's start meets what the one before it left."""

    found: dict[int, list[Access]] = {}
    over = mapped.staging.over

    def seen(a: Access) -> Access:
        """As other lanes see it; of buffers in one place nobody knows which elements are whose."""
        if a.buffer in over or a.buffer in over.values():
            return Access(over.get(a.buffer, a.buffer), (), a.store, frozenset())
        return Access(a.buffer, (), a.store, frozenset(o for o in a.owners if o.is_lane))

    def find(part: Share | All | One) -> Sequence[Access]:
        if id(part) not in found:
            reached = [a for a in accesses(part, mapped.buffers) if not mapped.places[a.buffer].is_private]
            found[id(part)] = list(map(seen, reached))
        return found[id(part)]

    known: Touched = frozenset()
    while True:
        load, pending = with_barriers(mapped.load, known, find)
        begin, pending = with_barriers(mapped.begin, pending, find)
        steps = []
        for step in mapped.steps:
            parts, pending = loop_with_barriers(step.parts, pending, find)
            steps.append(replace(step, parts=parts))
        end, pending = with_barriers(mapped.end, pending, find)
        if pending <= known:
            return replace(mapped, load=load, begin=begin, steps=tuple(steps), end=end)
        known |= pending


def all_leaves(mapped: Mapped) -> list[Share | All | One]:
    """All parts of a kernel that compute."""
    groups = (mapped.once, mapped.own, mapped.load, mapped.begin, *(s.parts for s in mapped.steps), mapped.end)
    return [leaf for parts in groups for leaf in leaves(parts)]
