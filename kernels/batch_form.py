"""Whether problems of a batch are better solved side by side, one in each element of a vector, or one after the other.

Side by side, what all problems share (the weights) is read once for all of them and vectors are always full; but what
each problem owns must stay in the cache for all of them at once, and the inputs must be rearranged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels.accesses import touches
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.schedule_choices import ScheduleChoices
from unfoldc.kernels.target_spec import TargetSpec

# Bytes: most processors have 32 or 48 KiB of first-level and 0.5 to 2 MiB of second-level cache.
_FIRST_CACHE = 32 * 1024
_SECOND_CACHE = 1024 * 1024
_CHOSEN = {"none": "one by one was measured to be faster"}


def side_by_side(
    plain: LoopProgram,
    scheduled: LoopProgram,
    inputs: Sequence[Port],
    spec: TargetSpec,
    choices: ScheduleChoices | None = None,
) -> tuple[LoopProgram, LoopProgram | None, int, str]:
    """The scheduled program of one problem, that of several side by side (None where there is none), how many, why not.

    `plain` is the program that both are scheduled from. The first keeps the constants of both, which they share where
    they read them alike. `choices` as for `schedule`.
    """
    lanes = spec.batch_lanes
    if lanes < 2 or not any(port.batched for port in inputs):
        return scheduled, None, 0, ""
    chosen = choices.side_by_side if choices else "fit"
    if chosen == "fit":
        lanes = lanes_that_fit(plain, scheduled, lanes)
    reason = why_one_by_one(plain, scheduled, lanes) if chosen == "fit" else _CHOSEN.get(chosen, "")
    if reason:
        return scheduled, None, 0, reason
    lanes = lanes // 2 if chosen == "half" else lanes
    wide = schedule(plain, spec, lanes, choices=choices)
    both = replace(
        scheduled,
        buffers={**scheduled.buffers, **{name: wide.buffers[name] for name in wide.constants}},
        constants={**wide.constants, **scheduled.constants},
    )
    return both, wide, lanes, ""


def lanes_that_fit(program: LoopProgram, scheduled: LoopProgram, lanes: int) -> int:
    """`lanes`, or half of them if so many problems fit the cache side by side while `lanes` do not.

    `lanes` problems fill two registers, of which one hides the latency of the other; half of them are a whole vector.
    """
    half = lanes // 2
    few = half > 1 and why_one_by_one(program, scheduled, lanes) and not why_one_by_one(program, scheduled, half)
    return half if few else lanes


def why_one_by_one(program: LoopProgram, scheduled: LoopProgram, lanes: int) -> str:
    """Why `lanes` problems side by side would not pay; empty if they would. `scheduled` has its memory plan.

    Either all that they own stays in the first cache, or as much of it as an iteration uses, or it is the weights that
    do not stay there, and are read once for all problems.
    """
    own = scheduled.scratch_bytes + sum(
        b.nbytes for b in scheduled.buffers.values() if b.space in ("input", "output", "state")
    )
    shared = sum(value.nbytes for value in scheduled.constants.values())
    together = lanes * own
    in_second = together <= _SECOND_CACHE and (own <= shared or lanes * _used_again(program) <= _FIRST_CACHE)
    if together <= _FIRST_CACHE or in_second:
        return ""
    return f"{lanes} problems with {own} bytes each do not fit the cache"


def _used_again(program: LoopProgram) -> int:
    """Bytes of its own that a problem reads or writes in every iteration."""
    used = [touches(step.body) for step in program.steps]
    sizes = [sum(b.nbytes for n, b in program.buffers.items() if n in u and b.space != "constant") for u in used]
    return max(sizes, default=_FIRST_CACHE)
