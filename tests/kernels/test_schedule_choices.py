"""Laws of schedule choices: all of them compute the same, and the default is what a target gets without any."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import build_artifact, load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.schedule_choices import (
    ScheduleChoices,
    changes,
    choices_for,
    default_for,
    with_changes,
)
from unfoldc.kernels.sweeps import in_sweeps
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.kernels.verify import verify_loops

HOST = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=32)
SMALL = TargetSpec("cortex-m4", 32, vector_bits=0, accumulators=4, float_types=("float32",))
RISCV = TargetSpec("rv32imfc", 32, vector_bits=0, accumulators=8, float_types=("float32",))
DEVICE = TargetSpec("cortex-a53", 64, vector_bits=128, accumulators=8)
PLACES = {
    "host c": (HOST, "c"),
    "host numba": (HOST, "numba"),
    "host tvm": (HOST, "tvm"),
    "m4 c": (SMALL, "c"),
    "rv32 c": (RISCV, "c"),
    "a53 c": (DEVICE, "c"),
}
MODELS = ("wide", "admm", "ista_tied", "float64")


def drawn(dice: random.Random, spec: TargetSpec, backend: str) -> ScheduleChoices:
    """A few choices changed, many, or all."""
    space = choices_for(spec, backend)
    names = dice.sample(list(space), min(len(space), dice.choice((2, 6, 99))))
    return replace(default_for(spec, backend), **{n: dice.choice(space[n]) for n in names})  # type: ignore[arg-type]


def scheduled(plain: LoopProgram, spec: TargetSpec, choices: ScheduleChoices, lanes: int = 1) -> LoopProgram:
    if lanes > 1:
        return schedule(plain, spec, lanes, choices=choices)
    return schedule(in_sweeps(plain, spec, choices=choices), spec, choices=choices)


@pytest.mark.parametrize("place", PLACES)
def test_whatever_is_chosen_computes_the_same(workshop: Any, place: str) -> None:
    spec, backend = PLACES[place]
    dice = random.Random(place)
    for name in MODELS:
        _, program = load_program(workshop.saved(name, 4))
        lowered = lower(program)
        rng, types = np.random.default_rng(1), program.types
        inputs = {n: rng.standard_normal(types[n].shape).astype(types[n].dtype) for n in program.inputs}
        wanted = evaluate(program, inputs)
        for _ in range(3):
            choices = drawn(dice, spec, backend)
            plain = repeat_nests(lowered) if choices.repeated else lowered
            for lanes in (1, 8) if spec is HOST else (1,):
                loops = scheduled(plain, spec, choices, lanes)
                verify_loops(loops)
                found = run(loops, dict(zip(loops.inputs, inputs.values(), strict=True)))
                workshop.close([found[n] for n in loops.outputs], wanted, 2e-5)


@pytest.mark.parametrize("place", PLACES)
def test_the_default_is_what_a_target_gets(workshop: Any, place: str) -> None:
    spec, backend = PLACES[place]
    model, program = load_program(workshop.saved("wide", 4))
    on_host = spec is HOST
    made = [
        build_artifact(model, program, spec, backend, "solver", on_host, choices=choices)
        for choices in (None, default_for(spec, backend))
    ]
    assert made[0].sources == made[1].sources and made[0].target == made[1].target == spec
    assert "schedule" not in made[0].notes and "schedule" not in made[1].notes


@pytest.mark.parametrize("place", PLACES)
def test_the_default_comes_first_and_nothing_twice(place: str) -> None:
    spec, backend = PLACES[place]
    space = choices_for(spec, backend)
    for name, values in space.items():
        assert values[0] == getattr(default_for(spec, backend), name)
        assert len({(type(v), v) for v in values}) == len(values)
    assert choices_for(spec, backend) == space  # a pure function
    assert sum(len(values) > 1 for values in space.values()) >= 5


def test_what_is_changed_is_said_and_read_back(workshop: Any) -> None:
    dice = random.Random(5)
    model, program = load_program(workshop.saved("wide", 4))
    for spec, backend in PLACES.values():
        choices = drawn(dice, spec, backend)
        changed = changes(choices, default_for(spec, backend))
        assert with_changes(changed, spec, backend) == choices
        artifact = build_artifact(model, program, spec, backend, "solver", spec is HOST, choices=choices)
        assert artifact.notes.get("schedule", {}) == changed
        assert artifact.target == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 7},
        {"rows": True},
        {"rows": 4.0},
        {"rows": "4"},
        {"rows": None},
        {"rows": [4]},
        {"nothing": 1},
        {"__class__": 1},
        {"tall": 1},
        {"side_by_side": "system('x')"},
        {"early_sums": False},  # there is none on the host, where vectors start their sums so anyhow
        {"vector_bits": 1024},
    ],
)
def test_choices_that_are_not_offered_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        with_changes(wrong, HOST, "c")


def test_vectors_are_as_wide_as_chosen(workshop: Any) -> None:
    model, program = load_program(workshop.saved("wide", 4))
    for bits in (512, 256, 128):
        artifact = build_artifact(
            model, program, HOST, "c", "solver", True, choices=with_changes({"vector_bits": bits}, HOST, "c")
        )
        widths = [32 * n for n in (4, 8, 16) if f"_x{n}_LANES {n}" in artifact.sources["solver.c"]]
        assert max(widths) == bits


def test_problems_side_by_side_are_a_choice(workshop: Any) -> None:
    model, program = load_program(workshop.saved("ista_tied", 4))
    found = {}
    for value in ("all", "half", "none"):
        choices = with_changes({} if value == "fit" else {"side_by_side": value}, HOST, "c")
        artifact = build_artifact(model, program, HOST, "c", "solver", True, choices=choices)
        found[value] = artifact.sources.get("solver_lanes.h", "")
    assert "solver_LANES 32" in found["all"] and "solver_LANES 16" in found["half"] and not found["none"]
