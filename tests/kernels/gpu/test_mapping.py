"""The law of the mapping: lanes that run in any order between barriers never meet, and compute what the loops say."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kernels.lanes import ORDERS, RaceError, run_lanes

from unfoldc.kernels.gpu import GRID, GpuChoices, Mapped, map_program
from unfoldc.kernels.gpu.parts import Barrier, InStep, One, Parts, Share, leaves
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import optimise

GROUPS = (1, 2, 4, 32, 64, GRID)


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).parents[1] / "printers" / "loop_programs.py")


def error(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Relative to the norm, the largest of the outputs; infinite where NaN or infinities are not the same."""
    worst = 0.0
    for name, right in wanted.items():
        a, b = found[name].astype(np.float64), right.astype(np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            return np.inf
        worst = max(worst, float(np.linalg.norm(a[finite] - b[finite])) / max(float(np.linalg.norm(b[finite])), 1e-9))
    return worst


def agree(program: LoopProgram, inputs: dict[str, np.ndarray], choices: GpuChoices, order: str, count: int) -> None:
    """The mapped program, two problems in a row, against the interpreter."""
    mapped = map_program(program, choices)
    found = run_lanes(mapped, inputs, iterations=count, order=order, problems=2)
    assert error(found, run(program, inputs, count)) <= 1e-5, (choices, order, count)


def loops(workshop: Any, solver: Any, K: int) -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """A solver's nests as the back end gets them, and one problem."""
    model = workshop.imported(solver.make(K))
    program = results_fused(repeat_nests(lower(optimise(model.program))))
    feeds = workshop.single(solver.problems(), model, 0)
    return program, dict(zip(program.inputs, feeds.values(), strict=True))


def test_every_solver_on_every_group(workshop: Any, solver: Any) -> None:
    program, inputs = loops(workshop, solver, 4)
    for number, group in enumerate((4, 64, GRID)):
        order = ORDERS[number % len(ORDERS)]
        agree(program, inputs, GpuChoices(group), order, program.iterations - number % 2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("memory", [{}, {"private": 0}, {"private": 0, "shared": 0}], ids=str)
def test_every_memory_in_every_order(memory: dict[str, int], order: str) -> None:
    program = programs.lista(peeled=True)
    y = np.random.default_rng(0).normal(size=5).astype(np.float32)
    for group in (1, 2, 8, 16, 128, GRID):
        agree(program, {"y": y}, GpuChoices(group, **memory), order, 4)


@pytest.mark.parametrize("group", GROUPS)
def test_types_axes_and_overlaid_scratch(group: int) -> None:
    for program, inputs in (programs.awkward(), programs.overlaid()):
        for k in range(program.iterations + 1):
            agree(program, inputs, GpuChoices(group), "random", k)


@pytest.mark.parametrize("group", [4, 64])
def test_nan_and_infinity_stay(group: int) -> None:
    program = programs.lista()
    for value in (np.nan, np.inf, -np.inf):
        y = np.array([1, 2, value, 0, -1], np.float32)
        agree(program, {"y": y}, GpuChoices(group), "random", 4)


# -- barriers --------------------------------------------------------------------------------------------------------


def barriers(parts: Parts) -> int:
    return sum(barriers(p.body) if isinstance(p, InStep) else isinstance(p, Barrier) for p in parts)


def without(parts: Parts, number: int) -> Iterator[Any]:
    """The parts without the barrier of that number."""
    for part in parts:
        if isinstance(part, InStep):
            yield replace(part, body=tuple(without(part.body, number)))
            number -= barriers(part.body)
        elif not isinstance(part, Barrier) or number != 0:
            yield part
            number -= isinstance(part, Barrier)
        else:
            number -= 1


def with_one_less(mapped: Mapped) -> Iterator[Mapped]:
    """The kernel with each of its barriers left out in turn."""
    for name in ("load", "begin", "end"):
        parts: Parts = getattr(mapped, name)
        for i in range(barriers(parts)):
            change: dict[str, Any] = {name: tuple(without(parts, i))}
            yield replace(mapped, **change)
    for s, step in enumerate(mapped.steps):
        for i in range(barriers(step.parts)):
            steps = list(mapped.steps)
            steps[s] = replace(step, parts=tuple(without(step.parts, i)))
            yield replace(mapped, steps=tuple(steps))


@pytest.mark.parametrize("group", [2, 4, 32, 64, GRID])
def test_each_barrier_of_lista_is_needed_and_missed(group: int) -> None:
    mapped = map_program(programs.lista(peeled=True), GpuChoices(group))
    y = {"y": np.ones(5, np.float32)}
    fewer = list(with_one_less(mapped))
    assert fewer
    for broken in fewer:
        with pytest.raises(RaceError):
            run_lanes(broken, y, problems=2)


@pytest.mark.parametrize("name", ["fista", "admm", "conjugate_gradient", "swap", "matrices"])
def test_barriers_are_needed_and_missed(workshop: Any, name: str) -> None:
    program, inputs = loops(workshop, workshop.case(name), 3)
    for group in (4, 64):
        with pytest.raises(RaceError):
            run_lanes(with_none(map_program(program, GpuChoices(group))), inputs, problems=2)


def test_an_order_of_lanes_shows_what_missing_barriers_do() -> None:
    """Apart from the watch over memory: a race changes the answer in some order."""
    program = programs.lista()
    y = {"y": np.random.default_rng(1).normal(size=5).astype(np.float32)}
    wanted = run(program, y)
    broken = with_none(map_program(program, GpuChoices(4)))
    assert any(error(run_lanes(broken, y, order=o, watched=False), wanted) > 1e-5 for o in ORDERS)


def with_none(mapped: Mapped) -> Mapped:
    """The kernel without any barrier."""
    while fewer := next(with_one_less(mapped), None):
        mapped = fewer
    return mapped


# -- what the mapping makes of a solver ------------------------------------------------------------------------------


def test_rows_of_a_warp_stay_in_registers_and_one_barrier_stands_before_each_product() -> None:
    mapped = map_program(programs.lista(m=16, n=32), GpuChoices(32))
    kinds = {name: place.kind for name, place in mapped.places.items()}
    assert (kinds["W2"], kinds["b"], kinds["t"]) == ("lane", "lane", "lane")
    assert (kinds["z"], kinds["theta"]) == ("group", "block")
    assert [barriers(step.parts) for step in mapped.steps] == [2]  # before z is read, and before it is written again


def test_a_thread_waits_for_nobody() -> None:
    mapped = map_program(programs.lista(), GpuChoices(1, 4))
    assert not barriers(mapped.steps[0].parts) and not barriers(mapped.begin)


def test_sums_with_few_results_are_split_over_teams() -> None:
    mapped = map_program(programs.lista(m=4, n=16), GpuChoices(256))
    product = [leaf for leaf in leaves(mapped.steps[0].parts) if isinstance(leaf, Share)][0]
    assert product.team > 1


def test_a_sequence_is_run_by_one_lane_or_in_step() -> None:
    program, _ = programs.awkward()
    for leaf in leaves(map_program(program, GpuChoices(4)).begin):
        assert isinstance(leaf, Share | One)


@pytest.mark.parametrize(
    ("choices", "found"),
    [
        ({"group": 3}, "a group of 3 lanes"),
        ({"group": 2048}, "a group of 2048 lanes"),
        ({"group": 64, "problems": 2}, "2 problems in a block of groups of 64 lanes"),
        ({"group": 32, "problems": 64}, "2048 threads in a block"),
        ({"group": 1, "problems": 0}, "0 problems"),
    ],
)
def test_choices_that_no_gpu_can_take(choices: dict[str, int], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        GpuChoices(**choices)
