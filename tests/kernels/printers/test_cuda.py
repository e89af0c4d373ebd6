from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kernels.ptx import needs_nvvm, ptx
from gpu_kernels.simulator import Simulator

from unfoldc.kernels.gpu import GRID, GpuChoices
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Binary, LoopProgram
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))
GOLDEN = Path(__file__).parents[1] / "golden" / "lista_cuda.txt"
Batched = bool | dict[str, bool]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    process = Simulator()
    yield process
    process.close()


def sources(program: LoopProgram, *choices: GpuChoices, batched: Batched = True) -> dict[str, str]:
    inputs, outputs = (programs.ports(program, names, batched) for names in (program.inputs, program.outputs))
    forms = [CudaForm(f"form{i}", 1 + 100 * i, c) for i, c in enumerate(choices)]
    return cuda_sources("solver", program, inputs, outputs, forms)


def agree(
    simulator: Simulator,
    program: LoopProgram,
    inputs: dict[str, np.ndarray],
    choices: GpuChoices,
    iterations: int | None = None,
    rtol: float = 1e-5,
) -> None:
    """Printed kernels in the simulator against the interpreter; the inputs have a batch in front."""
    ports = tuple(programs.ports(program, names) for names in (program.inputs, program.outputs))
    batch = len(next(iter(inputs.values())))
    found, _ = simulator.launch(program, ports, choices, inputs, batch, iterations)
    for problem in range(batch):
        wanted = run(program, {name: value[problem] for name, value in inputs.items()}, iterations)
        for name, right in wanted.items():
            scale = max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0)))
            np.testing.assert_allclose(found[name][problem], right, rtol, rtol * scale, err_msg=name)


def several(inputs: dict[str, np.ndarray], batch: int = 2) -> dict[str, np.ndarray]:
    return {name: np.stack([value] * batch) for name, value in inputs.items()}


# -- text ------------------------------------------------------------------------------------------------------------


def test_the_source_is_the_golden_file() -> None:
    made = sources(programs.lista(peeled=True), GpuChoices(32), GpuChoices(4, 32))
    text = made["solver.py"] + "\n" + made["solver_launch.json"]
    if os.environ.get("UNFOLDC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_source_depends_on_the_program_alone() -> None:
    program = programs.awkward()[0]
    turned = replace(program, buffers=dict(reversed(program.buffers.items())))
    assert sources(turned, GpuChoices(4, 2)) == sources(program, GpuChoices(4, 2))


def test_the_launch_says_what_a_caller_needs() -> None:
    program = programs.lista()
    facts = json.loads(sources(program, GpuChoices(8, 4), GpuChoices(GRID, threads=64))["solver_launch.json"])
    first, second = facts["forms"]
    assert [row[0] for row in facts["parameters"]] == [
        "x0", "y0", "weights_float32", "workspace", "batch", "iterations", "ticks",
    ]  # fmt: skip
    assert facts["parameters"][0] == ["x0", "float32*", "input", 0]
    assert first["kernel"] == "solve_form0"
    assert (first["threads"], first["problems"], first["group"], first["cooperative"]) == (32, 4, 8, False)
    assert (second["threads"], second["from_batch"], second["cooperative"]) == (64, 101, True)
    assert second["workspace_bytes"] > 0 and second["shared_bytes"] == 0 < first["shared_bytes"]
    ((dtype, elements, entries),) = facts["weights"]
    assert dtype == "float32" and {name for name, _ in entries} == {"W1", "W2", "theta"}
    assert all(at * 4 % 64 == 0 and at + program.constants[name].size <= elements for name, at in entries)


def test_no_text_of_the_model_leaves_its_comment() -> None:
    assert "# from begin_W1_y______\n" in sources(programs.lista(), GpuChoices(4))["solver.py"]


# -- in the simulator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    [GpuChoices(1, 3), GpuChoices(4, 2), GpuChoices(32), GpuChoices(64), GpuChoices(GRID, threads=8),
     GpuChoices(2, 2, private=0), GpuChoices(4, private=0, shared=0)],
    ids=lambda c: f"{c.group}x{c.problems}-{c.private}-{c.shared}",
)  # fmt: skip
def test_batches_that_do_not_fill_the_blocks(simulator: Simulator, choices: GpuChoices) -> None:
    y = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    agree(simulator, programs.lista(peeled=True), {"y": y}, choices)
    agree(simulator, programs.lista(), {"y": y[:1]}, choices, 2)


@pytest.mark.parametrize("choices", [GpuChoices(1, 4), GpuChoices(2, 3), GpuChoices(8, 4, private=0)], ids=str)
def test_answers_in_the_place_of_inputs(simulator: Simulator, choices: GpuChoices) -> None:
    A = np.random.default_rng(0).normal(size=(9, 16, 9)).astype(np.float32)
    agree(simulator, programs.powers(), {"A": A}, choices)
    assert "] = shared_float32[" in sources(programs.powers(), choices)["solver.py"].partition("y0[")[2]


def test_more_rounds_than_are_written_out(simulator: Simulator) -> None:
    y = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    agree(simulator, programs.lista(m=3, n=70, iterations=2), {"y": y}, GpuChoices(4, private=400))


def test_nan_and_infinity_of_one_problem_stay_with_it(simulator: Simulator) -> None:
    y = np.ones((4, 5), np.float32)
    y[1, 2], y[2, 0] = np.nan, np.inf
    agree(simulator, programs.lista("float64"), {"y": y.astype(np.float64)}, GpuChoices(8, 4))


@pytest.mark.parametrize("group", [1, 4, 64])
def test_names_axes_types_and_several_ports(simulator: Simulator, group: int) -> None:
    program, inputs = programs.awkward()
    for k in (0, 3):
        agree(simulator, program, several(inputs), GpuChoices(group), k)


def test_scratch_buffers_have_places_of_their_own(simulator: Simulator) -> None:
    program, inputs = programs.overlaid()
    agree(simulator, program, several(inputs, 3), GpuChoices(8, 2))


def test_no_index_leads_outside_an_array(simulator: Simulator) -> None:
    program, inputs, wanted = programs.gather()
    ports = tuple(programs.ports(program, names) for names in (program.inputs, program.outputs))
    found, _ = simulator.launch(program, ports, GpuChoices(4), several(inputs), 2)
    np.testing.assert_array_equal(found["x"], np.stack([wanted, wanted]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_operators_keep_nan_and_infinity(simulator: Simulator, dtype: str) -> None:
    program, inputs = programs.float_operators(dtype)
    agree(simulator, program, several(inputs, 1), GpuChoices(4), rtol=2e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integer_operators(simulator: Simulator, dtype: str) -> None:
    program, inputs = programs.integer_operators(dtype)
    agree(simulator, program, several(inputs, 1), GpuChoices(4), rtol=0)


def test_casts(simulator: Simulator) -> None:
    program, inputs = programs.casts(("bool", "float32", "float64", "int8", "int32", "int64", "uint8"))
    agree(simulator, program, several(inputs, 1), GpuChoices(2), rtol=0)


def test_any_byte_but_zero_is_true(simulator: Simulator) -> None:
    both = {"c": lambda a, b: Binary("and", a, b, "bool")}
    program = programs.elementwise({"a": ("bool", 4), "b": ("bool", 4)}, both, 4)
    a, b = np.array([[2, 2, 0, 1]], np.uint8), np.array([[1, 0, 1, 1]], np.uint8)
    ports = tuple(programs.ports(program, names) for names in (program.inputs, program.outputs))
    found, _ = simulator.launch(program, ports, GpuChoices(4), {"a": a.view(bool), "b": b.view(bool)}, 1)
    assert found["c"].view(np.uint8).tolist() == [[1, 0, 0, 1]]


@pytest.mark.parametrize("group", [1, 4, GRID])
def test_an_input_without_the_batch_axis_is_shared(simulator: Simulator, group: int) -> None:
    a = np.arange(6, dtype=np.float32)
    program = programs.elementwise(
        {"a": ("float32", 6), "b": ("float32", 6)}, {"c": lambda a, b: programs.add(a, b)}, 6
    )
    names = {"a": False, "b": True, "c": True}
    ports = tuple(programs.ports(program, own, names) for own in (program.inputs, program.outputs))
    b = np.stack([a, 10 * a, -a])
    found, _ = simulator.launch(program, ports, GpuChoices(group), {"a": a, "b": b}, 3)
    np.testing.assert_array_equal(found["c"], a + b)


def test_a_batch_of_zero_does_nothing(simulator: Simulator) -> None:
    program = programs.lista()
    ports = tuple(programs.ports(program, names) for names in (program.inputs, program.outputs))
    found, ticks = simulator.launch(program, ports, GpuChoices(4, 2), {"y": np.empty((0, 5), np.float32)}, 0)
    assert found["x"].shape == (0, 9) and not ticks[:, 1:].any()


def test_stamps_grow_and_end_with_the_iterations_that_ran(simulator: Simulator) -> None:
    program = programs.lista()
    ports = tuple(programs.ports(program, names) for names in (program.inputs, program.outputs))
    y = np.ones((2, 5), np.float32)
    _, ticks = simulator.launch(program, ports, GpuChoices(4), {"y": y}, 2, 3)
    assert ticks.shape == (2, 7)
    ran = ticks[:, [0, 1, 2, 3, 4, 6]]
    assert (np.diff(ran) > 0).all() and (ran > 0).all() and not ticks[:, 5].any()


# -- compiled --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> list[str]:
    """LISTA 32 -> 64 by a warp, by a block, and by the grid."""
    made = sources(programs.lista(m=32, n=64), GpuChoices(32), GpuChoices(128), GpuChoices(GRID))
    return ptx(made, ["solve_form0", "solve_form1", "solve_form2"])


@needs_nvvm
def test_a_warp_keeps_its_rows_in_registers(compiled: list[str]) -> None:
    """32 lanes, two rows of 64 each: 128 multiply-adds per iteration, and nothing goes to local memory."""
    text = compiled[0]
    assert ".local" not in text and "call" not in text.replace(".callprototype", "")
    body = text[text.index("bar.warp.sync") :]
    assert len(re.findall(r"fma\.rn\.f32", body)) == 128
    assert len(re.findall(r"ld\.shared\.v4\.f32", body)) == 16 and len(re.findall(r"ld\.shared", body)) <= 20


@needs_nvvm
def test_groups_compile_with_what_they_wait_by_and_without_float64(compiled: list[str]) -> None:
    warp, block, grid = compiled
    assert ["bar.warp.sync" in text for text in compiled] == [True, False, False]
    assert ["atom" in text for text in compiled] == [False, False, True]
    assert all("%clock64" in text for text in compiled)
    assert not any("%globaltimer" in text for text in compiled)  # whose steps may be longer than an iteration
    assert not any("ld.global.nc" in text for text in compiled)  # what other blocks wrote is not read from old lines
    assert not any(re.search(r"\.f64 |\.f64$", text) for text in compiled)


@pytest.mark.slow
@needs_nvvm
def test_float32_stays_float32_in_every_operator() -> None:
    (text,) = ptx(sources(programs.float_operators("float32")[0], GpuChoices(256)), ["solve_form0"])
    assert re.search(r"max\.NaN\.f32", text)
    # NVIDIA's sine and cosine multiply once in float64, for arguments beyond 1e5.
    doubles = [line for line in text.splitlines() if re.search(r"\.f64 |\.f64$", line)]
    assert sum("mul.f64" in line for line in doubles) == sum("0d3BF921FB54442D19" in line for line in doubles)
    assert not [line for line in doubles if not re.search(r"\.reg|cvt|mul", line)]
