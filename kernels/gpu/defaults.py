"""Which mapping suits a solver: few problems want a short way from start to end, many want few idle lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unfoldc.kernels.gpu.choices import GRID, LARGEST_BLOCK, WARP, GpuChoices
from unfoldc.kernels.gpu.estimate import latency, private_words
from unfoldc.kernels.gpu.mapping import Mapped, map_program
from unfoldc.kernels.loops import LoopProgram

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

PROCESSORS = 132  # of the GPUs of the day; estimates hang on it, answers do not
_THREADS = 2048  # that a processor holds
_REGISTERS = 64 * 1024
_SHARED = 220 * 1024  # bytes of a processor
_ENOUGH = 8  # warps by which a processor hides how long memory takes
_AROUND = 30  # registers that a lane takes beside what it keeps
_BLOCK = 128  # threads of a block of many small groups
_SPILLED = 4.0  # how much longer it takes when a lane keeps more than its registers hold
_MOST = 225  # words that a lane can keep in registers


def default_gpu_choices(program: LoopProgram, inputs: Sequence[Port], batch: int) -> GpuChoices:
    """The choices for batches of about so many problems, by estimates alone."""
    unbatched = frozenset(n for n, port in zip(program.inputs, inputs, strict=True) if not port.batched)
    groups = [1 << i for i in range(LARGEST_BLOCK.bit_length())]
    found: list[tuple[float, GpuChoices]] = []
    for group in groups:
        choices = GpuChoices(group)
        mapped = map_program(program, choices, unbatched)
        far = any(p.kind == "work" for p in mapped.places.values())
        if batch < PROCESSORS:
            found.append((latency(mapped), choices))
        else:
            choices = _filled(mapped)
            found.append((_per_problem(mapped, choices), choices))
        if far and group == LARGEST_BLOCK and batch < PROCESSORS:
            grid = GpuChoices(GRID)
            found.append((latency(map_program(program, grid, unbatched)), grid))
    return min(found, key=lambda weighed: weighed[0])[1]


def from_batch(choices: GpuChoices) -> int:
    """The batch from which blocks of this kind wait for each other: larger ones want another form."""
    if choices.is_grid:
        return 2
    return PROCESSORS * max(1, min(16, _THREADS // max(choices.block_threads, 64)))


def _filled(mapped: Mapped) -> GpuChoices:
    """As many problems in a block as fill its threads and fit its shared memory."""
    choices = mapped.choices
    if choices.group > WARP:
        return choices
    problems = max(_BLOCK // choices.group, 1)
    own = max(mapped.shared.nbytes, 1)
    while problems > max(WARP // choices.group, 1) and problems * own > choices.shared:
        problems //= 2
    return replace(choices, problems=problems)


def _per_problem(mapped: Mapped, choices: GpuChoices) -> float:
    """The time of lanes that a problem takes, more where a processor cannot hold enough warps of them."""
    words = private_words(mapped)
    kept = min(words, _MOST) + _AROUND
    threads = choices.block_threads
    by_registers = _REGISTERS // (kept * threads)
    by_memory = _SHARED // max(mapped.shared.nbytes * choices.problems, 1)
    blocks = max(min(by_registers, by_memory, _THREADS // threads), 1)
    warps = blocks * max(threads // WARP, 1)
    return latency(mapped) * choices.group * max(1.0, _ENOUGH / warps) * (_SPILLED if words > _MOST else 1.0)
