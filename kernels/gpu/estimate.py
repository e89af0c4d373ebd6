"""How long a mapped kernel takes for a problem, in additions of one lane: an estimate for choosing, not a time."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.gpu.choices import GRID_LANES, PROCESSORS
from unfoldc.kernels.gpu.costs import runs_of, wait, work
from unfoldc.kernels.gpu.mapping import Mapped, MappedStep
from unfoldc.kernels.gpu.owners import accesses
from unfoldc.kernels.gpu.parts import LANE, All, Barrier, InStep, One, Part, Share, leaves
from unfoldc.kernels.gpu.places import lane_elements, words
from unfoldc.kernels.index_bounds import Ranges
from unfoldc.kernels.loops import ITERATION, Var

_BYTES = 256  # that a processor gets from the second-level cache in the time of an addition
_FAR = 2.0  # how much longer it takes where the state lies in global memory


def latency(mapped: Mapped) -> float:
    """From the first lane's start of a problem to the last one's end."""
    processors = PROCESSORS if mapped.choices.is_grid else 1
    total = sum(_parts(mapped, parts, {}) for parts in (mapped.load, mapped.begin, mapped.end))
    for step in mapped.steps:
        ranges: Ranges = {ITERATION: (step.first, step.first + step.count - 1)}
        total += step.count * (_parts(mapped, step.parts, ranges) + far_bytes(mapped, step) / _BYTES / processors)
    return total * (_FAR if any(p.kind == "work" for p in mapped.places.values()) else 1.0)


def far_bytes(mapped: Mapped, step: MappedStep) -> float:
    """Bytes of inputs and constants that an iteration reads where the caller has them."""
    read: dict[str, float] = {}
    for leaf in leaves(step.parts):
        for access in accesses(leaf, mapped.buffers):
            buffer = mapped.buffers[access.buffer]
            if mapped.places[access.buffer].kind == "given" and buffer.space in ("input", "constant"):
                stacked = bool(access.indices) and Var(ITERATION) in build.walk(access.indices[0])
                own = buffer.nbytes / (buffer.shape[0] if stacked else 1)
                read[access.buffer] = max(read.get(access.buffer, 0.0), own)
    return sum(read.values())


def private_words(mapped: Mapped) -> int:
    """Words of 4 bytes that a lane keeps to itself at once, roughly.

    Scratch shares places as in the program's memory plan, and half of it is used up as soon as it is made.
    """
    total, scratch = 0.0, sum(b.nbytes for b in mapped.program.buffers.values() if b.space == "scratch")
    plan = mapped.program.scratch_bytes / scratch if scratch and mapped.program.scratch_bytes else 1.0
    for name, place in mapped.places.items():
        if place.is_private:
            buffer = mapped.buffers[name]
            group = max(mapped.choices.group, 1)
            size = buffer.size if place.owner is None else lane_elements(buffer, place.owner, group)
            total += size * words(buffer.dtype) * (min(plan, 1.0) / 2 if buffer.space == "scratch" else 1.0)
    return int(total)


def _parts(mapped: Mapped, parts: Sequence[Part], ranges: Ranges) -> float:
    lanes = mapped.choices.group or GRID_LANES
    free = frozenset(n for n, place in mapped.places.items() if place.is_private)
    total = 0.0
    for part in parts:
        if isinstance(part, Barrier):
            total += wait(mapped.choices.group)
        elif isinstance(part, InStep):
            inner = {**ranges, part.variable: (0, max(runs_of(part.extent, ranges) - 1, 0))}
            total += runs_of(part.extent, ranges) * _parts(mapped, part.body, inner)
        elif isinstance(part, Share):
            inner = {**ranges, **{v: (0, max(runs_of(n, ranges) - 1, 0)) for v, n in part.loops}}
            if mapped.choices.is_grid:
                inner[LANE] = (0, part.team - 1)
            rounds = -(-runs_of(part.runs, ranges) * part.team // lanes)
            total += rounds * work(part.body, inner, free)
        elif isinstance(part, All | One):
            total += work(part.body, ranges, free)
    return total
