"""Small groups reach the caller's arrays through shared memory: in whole sectors, and nothing is lost on the way."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kernels.lanes import ORDERS, RaceError, run_lanes
from gpu_kernels.sectors import traffic

from unfoldc.kernels.gpu import GpuChoices, map_program
from unfoldc.kernels.gpu.parts import Barrier
from unfoldc.kernels.gpu.staging import Staging
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Binary, For, Load, LoopProgram, Nest, Store, Var


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).parents[1] / "printers" / "loop_programs.py")


def narrow() -> LoopProgram:
    """Nine numbers in, five out: the answer has room where the input was."""
    program: LoopProgram = programs.lista(m=9, n=5)
    return program


def turned() -> LoopProgram:
    """As `narrow`, but what y begins with is added in the end, the last element first: y is read until then."""
    program, i = narrow(), Var("i")
    other = Load("y", (Binary("sub", programs.const(4), i, "int32"),), "float32")
    end = Nest((), (For("i", 5, (Store("x", (i,), Binary("add", Load("z", (i,), "float32"), other, "float32")),)),))
    return replace(program, end=(end,))


def given(program: LoopProgram) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {n: rng.normal(size=program.buffers[n].shape).astype("float32") for n in program.inputs}


def ports(program: LoopProgram) -> tuple[Any, Any]:
    return programs.ports(program, program.inputs), programs.ports(program, program.outputs)


@pytest.mark.parametrize("choices", [GpuChoices(1, 32), GpuChoices(1, 96), GpuChoices(2, 32), GpuChoices(4, 16)])
def test_warps_ask_for_each_sector_once(choices: GpuChoices) -> None:
    for program in (narrow(), turned(), programs.lista(m=8, n=24)):
        asked = traffic(program, ports(program), choices, rounds=2)
        for name in (*program.inputs, *program.outputs):
            found = asked[name]
            edges = 4 * -(-choices.block_threads // 32)  # where the elements of two warps meet in a sector
            assert found.needed <= found.asked <= found.needed + edges, (name, found)


def test_without_staging_each_lane_asks_for_sectors_of_its_own() -> None:
    """What the counter would say if nothing were staged, as it is where shared memory is full."""
    program = programs.lista(m=8, n=16)
    found = traffic(program, ports(program), GpuChoices(1, 32, shared=0))
    assert (found["x"].needed, found["x"].asked) == (64, 32 * 16)
    assert found["y"].asked >= 32 * 8


@pytest.mark.parametrize("group", [1, 2, 4])
def test_an_answer_takes_the_place_of_an_input_that_is_read_no_more(group: int) -> None:
    program = narrow()
    mapped = map_program(program, GpuChoices(group, 4))
    assert mapped.staging.outputs == ("x",) and set(mapped.staging.over) == {"x"}
    (place,) = mapped.staging.over.values()
    assert mapped.places["x"].offset == mapped.places[place].offset
    for order in ORDERS:
        found = run_lanes(mapped, given(program), order=order, problems=2)
        np.testing.assert_allclose(found["x"], run(program, given(program))["x"], 1e-5, 1e-6)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_an_input_that_is_read_to_the_end_keeps_its_place(group: int) -> None:
    program = turned()
    mapped = map_program(program, GpuChoices(group, 4, private=0))
    assert mapped.staging.outputs == ("x",)
    assert not mapped.staging.over or group == 1  # a lane alone keeps y in registers
    for order in ORDERS:
        found = run_lanes(mapped, given(program), order=order, problems=2)
        np.testing.assert_allclose(found["x"], run(program, given(program))["x"], 1e-5, 1e-6)


def test_lanes_that_still_read_an_input_are_waited_for() -> None:
    """The answer is stored right after the product that reads y, of which other lanes read all."""
    program = narrow()
    (product, clear), i = program.begin, Var("i")
    assert isinstance(product, Nest) and isinstance(clear, Nest)
    end = Nest((), (For("i", 5, (Store("x", (i,), Load("b", (i,), "float32")),)),))
    program = replace(program, begin=(product,), steps=(), end=(end,))
    mapped = map_program(program, GpuChoices(4, 4))
    assert mapped.staging.over
    wanted = run(program, given(program))["x"]
    np.testing.assert_allclose(run_lanes(mapped, given(program), order="random")["x"], wanted, 1e-5, 1e-6)
    assert isinstance(mapped.end[0], Barrier) or any(isinstance(p, Barrier) for p in mapped.end)
    broken = replace(mapped, end=tuple(p for p in mapped.end if not isinstance(p, Barrier)))
    with pytest.raises(RaceError):
        run_lanes(broken, given(program))


def test_what_does_not_fit_or_is_shared_by_all_problems_is_stored_directly() -> None:
    program = programs.lista(m=2, n=9)
    assert map_program(program, GpuChoices(1, 4)).staging.outputs == ("x",)
    assert map_program(program, GpuChoices(1, 4), frozenset({"x", "y"})).staging == Staging()
    without = map_program(program, GpuChoices(1, 4), frozenset({"x"})).shared.nbytes
    small = map_program(program, GpuChoices(1, 4, shared=without)).staging
    assert small.inputs == ("y",) and small.outputs == ()
    assert map_program(program, GpuChoices(8, 4)).staging == Staging()  # neighbouring lanes have neighbouring elements


@pytest.mark.parametrize("group", [8, 16])
def test_rows_of_larger_groups_leave_in_whole_sectors_too(group: int) -> None:
    program = programs.powers()
    choices = GpuChoices(group, 64 // group, private=0)
    mapped = map_program(program, choices)
    assert mapped.staging == Staging((), ("x",), {"x": "A"})  # A is where iterations read it
    found = traffic(program, ports(program), choices)["x"]
    assert found.needed <= found.asked <= found.needed + 8
    for order in ORDERS:
        answer = run_lanes(mapped, given(program), order=order, problems=2)
        np.testing.assert_allclose(answer["x"], run(program, given(program))["x"], 1e-5, 1e-6)
    assert map_program(program, replace(choices, problems=1)).staging == Staging()
    directly = traffic(program, ports(program), replace(choices, problems=1))["x"]
    assert directly.asked > 4 * directly.needed


def test_constants_that_only_begin_reads_are_brought_once_for_all_problems_of_a_block() -> None:
    program = programs.lista(m=8, n=32)
    one, several = (map_program(program, GpuChoices(32, problems)).places["W1"].kind for problems in (1, 4))
    assert (one, several) == ("given", "block")
    once, twice = (traffic(program, ports(program), GpuChoices(32, 4), rounds) for rounds in (1, 2))
    assert twice["weights_float32"].asked == once["weights_float32"].asked
    large = programs.lista(m=200, n=64)  # 50 KB beside what iterations read: too few blocks would run at once
    assert map_program(large, GpuChoices(32, 1)).places["W1"].kind == "given"
    assert map_program(large, GpuChoices(16, 2)).places["W1"].kind == "given"
