"""Whether problems of a batch are better solved side by side, one in each element of a vector, or one after the other.

Side by side, what all problems share (the weights) is read once for all of them and vectors are always full; but what
each problem owns must stay in the cache for all of them at once, and the inputs must be rearranged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.target_spec import TargetSpec

# Bytes: most processors have 32 or 48 KiB of first-level and 0.5 to 2 MiB of second-level cache.
_FIRST_CACHE = 32 * 1024
_SECOND_CACHE = 1024 * 1024


def side_by_side(
    plain: LoopProgram, scheduled: LoopProgram, inputs: Sequence[Port], spec: TargetSpec
) -> tuple[LoopProgram, LoopProgram | None, str]:
    """The scheduled program of one problem, that of several side by side (None where there is none), and why not.

    `plain` is the program that both are scheduled from. The first keeps the constants of both, which they share where
    they read them alike.
    """
    lanes = spec.batch_lanes
    if lanes < 2 or not any(port.batched for port in inputs):
        return scheduled, None, ""
    reason = why_one_by_one(scheduled, lanes)
    if reason:
        return scheduled, None, reason
    wide = schedule(plain, spec, lanes)
    both = replace(
        scheduled,
        buffers={**scheduled.buffers, **{name: wide.buffers[name] for name in wide.constants}},
        constants={**wide.constants, **scheduled.constants},
    )
    return both, wide, ""


def why_one_by_one(program: LoopProgram, lanes: int) -> str:
    """Why `lanes` problems side by side would not pay; empty if they would. `program` has its memory plan."""
    own = program.scratch_bytes + sum(
        b.nbytes for b in program.buffers.values() if b.space in ("input", "output", "state")
    )
    shared = sum(value.nbytes for value in program.constants.values())
    together = lanes * own
    if together <= _FIRST_CACHE or (own <= shared and together <= _SECOND_CACHE):
        return ""
    return f"{lanes} problems with {own} bytes each do not fit the cache"
