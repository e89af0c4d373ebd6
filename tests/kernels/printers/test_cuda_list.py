"""Any loop program as a list of launches, each kernel run by one thread, against the interpreter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kernels.one_thread import module_of
from gpu_kernels.ptx import needs_nvvm, ptx

from unfoldc.kernels.gpu.launch_list import launches
from unfoldc.kernels.gpu.product_form import ProductForm, shared_buffers
from unfoldc.kernels.gpu.split_products import split_products
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda import cuda_sources
from unfoldc.runtime.cuda.launch_facts import gathered, launch_facts
from unfoldc.runtime.cuda.simulated_list import run_list


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))


def sources(program: LoopProgram) -> dict[str, str]:
    """The module of a program that has this form alone, for weights of any size."""
    inputs, outputs = (programs.ports(program, names) for names in (program.inputs, program.outputs))
    shared = shared_buffers(program, inputs, outputs)
    form = ProductForm(1, launches(split_products(program, shared, 1), shared, 1))
    return cuda_sources("solver", program, inputs, outputs, [], form)


def solve(program: LoopProgram, inputs: dict[str, np.ndarray], count: int | None = None) -> dict[str, np.ndarray]:
    """The answers of a batch."""
    made = sources(program)
    artifact = programs.artifact(program, "cuda", made)
    facts, module = launch_facts(artifact), module_of(made["solver.py"])
    batch = len(next(iter(inputs.values())))
    (form,) = facts.forms
    assert form.launches is not None

    def flat(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8 if array.dtype == bool else array.dtype)

    arrays: dict[tuple[str, int], Any] = {
        ("batch", 0): batch, ("iterations", 0): program.iterations if count is None else count,
        ("workspace", 0): np.full(max(1, form.workspace_bytes * form.launches.reserved(batch)), 0xAA, np.uint8),
        ("ticks", 0): np.zeros(program.iterations + 3, np.int64),
    }  # fmt: skip
    arrays |= {("input", i): flat(inputs[name]) for i, name in enumerate(program.inputs)}
    arrays |= {("weights", i): gathered(artifact, *group) for i, group in enumerate(facts.weights)}
    answers = {n: np.zeros((batch, *program.buffers[n].shape), program.buffers[n].dtype) for n in program.outputs}
    arrays |= {("output", i): flat(answers[name]) for i, name in enumerate(program.outputs)}
    with np.errstate(all="ignore"):
        run_list(
            form.launches, facts.parameters, arrays, lambda name, blocks, threads, a: module[name](*a), stamped=True
        )
    assert (arrays["ticks", 0][: 2 + int(arrays["iterations", 0])] > 0).all()
    return answers


def agree(program: LoopProgram, inputs: dict[str, np.ndarray], count: int | None = None, rtol: float = 1e-5) -> None:
    found = solve(program, inputs, count)
    for problem in range(len(next(iter(inputs.values())))):
        wanted = run(program, {name: value[problem] for name, value in inputs.items()}, count)
        for name, right in wanted.items():
            scale = max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0)))
            np.testing.assert_allclose(found[name][problem], right, rtol, rtol * scale, err_msg=name)


def several(inputs: dict[str, np.ndarray], batch: int = 2) -> dict[str, np.ndarray]:
    return {name: np.stack([value] * batch) for name, value in inputs.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("peeled", [False, True])
def test_a_solver_with_a_first_iteration_of_its_own(dtype: str, peeled: bool) -> None:
    program = programs.lista(dtype, peeled)
    y = np.random.default_rng(1).standard_normal((3, 5)).astype(dtype)
    for count in (None, 1, 2):
        agree(program, {"y": y}, count, 1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operators(dtype: str) -> None:
    program, inputs = programs.float_operators(dtype)
    agree(program, several(inputs, 1))


def test_names_types_axes_and_ports() -> None:
    program, inputs = programs.awkward()
    agree(program, several(inputs))


def test_buffers_that_share_memory_elsewhere_have_their_own() -> None:
    program, inputs = programs.overlaid()
    agree(program, several(inputs))


def test_indices_from_outside_stay_within() -> None:
    program, inputs, right = programs.gather()
    found = solve(program, several(inputs))
    np.testing.assert_array_equal(found[program.outputs[0]][1], right)


@needs_nvvm
def test_awkward_kernels_compile() -> None:
    made = sources(programs.awkward()[0])
    found = json.loads(made["solver_launch.json"])["forms"][0]["list"]
    parts = [*found["begin"], *(x for step in found["steps"] for x in step["launches"]), *found["end"]]
    names = [x["kernel"] for x in parts if "kernel" in x]
    assert len(names) > 2 and all(".entry" in text for text in ptx(made, names))
