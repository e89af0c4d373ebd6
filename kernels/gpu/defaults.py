"""Which mapping suits a solver: few problems want a short way from start to end, many want few idle lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfoldc.kernels.gpu.choices import (
    ENOUGH_WARPS,
    GRID,
    LARGEST_BLOCK,
    PROCESSOR_SHARED,
    PROCESSORS,
    WARP,
    GpuChoices,
)
from unfoldc.kernels.gpu.estimate import far_bytes, latency, private_words
from unfoldc.kernels.gpu.mapping import Mapped, Mapper

_THREADS = 2048  # that a processor holds
_REGISTERS = 64 * 1024
_AROUND = 30  # registers that a lane takes beside what it keeps
_FETCHED = 64 * 1024  # bytes
_FAR_GROUP = 256  # lanes that a problem gets at least if its state does not fit shared memory
_BLOCK = 128  # threads of a block of many small groups
_SPILLED = 4.0  # how much longer it takes when a lane keeps more than its registers hold
_MOST = 225  # words that a lane can keep in registers


def default_gpu_choices(mapper: Mapper, batch: int) -> GpuChoices:
    """The choices for batches of about so many problems, by estimates alone."""
    groups = [1 << i for i in range(LARGEST_BLOCK.bit_length())]
    found: list[tuple[float, GpuChoices]] = []
    for group in groups:
        choices = GpuChoices(group)
        mapped = mapper(choices)
        if batch < PROCESSORS:
            found.append((latency(mapped), choices))
        else:
            mapped = mapper(filled(mapped))
            if _is_far(mapped) and group < _FAR_GROUP:
                continue  # each problem of each block has its part of the workspace
            found.append((_per_problem(mapped), mapped.choices))
        if group == LARGEST_BLOCK and batch < PROCESSORS and (_is_far(mapped) or _reads_far(mapped)):
            grid = GpuChoices(GRID)
            found.append((latency(mapper(grid)), grid))
    return min(found, key=lambda weighed: weighed[0])[1]


def fits_a_block(mapper: Mapper) -> bool:
    """Whether the state of a problem fits the shared memory of a block; else several problems would share the GPU's."""
    return not _is_far(mapper(GpuChoices(LARGEST_BLOCK)))


def from_batch(mapper: Mapper, choices: GpuChoices, many: GpuChoices) -> int:
    """The batch from which the form for `many` problems is used instead of the one with these choices.

    It is the batch from which blocks of the latter wait for each other, or which it would solve one by one in the time
    that the other form takes for all of them.
    """
    if choices.is_grid:
        one_by_one, at_once = (latency(mapper(c)) for c in (choices, many))
        return max(2, min(PROCESSORS, round(at_once / one_by_one)))
    return PROCESSORS * max(1, min(16, _THREADS // max(choices.block_threads, 64)))


def filled(mapped: Mapped) -> GpuChoices:
    """As many problems in a block as fill its threads and fit its shared memory."""
    choices = mapped.choices
    if choices.group > WARP:
        return choices
    problems = max(_BLOCK // choices.group, 1)
    own = sum(step * np.dtype(dtype).itemsize for dtype, step in mapped.shared.steps.items())
    common = mapped.shared.nbytes - own
    while problems > max(WARP // choices.group, 1) and common + problems * own > choices.shared:
        problems //= 2
    return replace(choices, problems=problems)


def _is_far(mapped: Mapped) -> bool:
    """Whether some of the state lies in the workspace."""
    return any(place.kind == "work" for place in mapped.places.values())


def _reads_far(mapped: Mapped) -> bool:
    """Whether an iteration reads more than a processor should fetch alone."""
    return any(far_bytes(mapped, step) > _FETCHED for step in mapped.steps)


def _per_problem(mapped: Mapped) -> float:
    """The time of lanes that a problem takes, more where a processor cannot hold enough warps of them."""
    words, choices = private_words(mapped), mapped.choices
    kept = min(words, _MOST) + _AROUND
    threads = choices.block_threads
    by_registers = _REGISTERS // (kept * threads)
    by_memory = PROCESSOR_SHARED // max(mapped.shared.nbytes, 1)
    blocks = max(min(by_registers, by_memory, _THREADS // threads), 1)
    warps = blocks * max(threads // WARP, 1)
    return latency(mapped) * choices.group * max(1.0, ENOUGH_WARPS / warps) * (_SPILLED if words > _MOST else 1.0)
