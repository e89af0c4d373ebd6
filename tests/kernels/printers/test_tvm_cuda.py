"""Kernels that TVM makes for GPUs, run on the processor lane by lane."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kernels.on_processor import ORDERS, Kernel, Library, kernel

from unfoldc.kernels.gpu import GRID, GpuChoices
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram

pytest.importorskip("tvm")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))
CHOICES = (GpuChoices(1, 3), GpuChoices(8, 4), GpuChoices(32), GpuChoices(64), GpuChoices(GRID, threads=8))


def prepared(program: LoopProgram, choices: GpuChoices, name: str, batched: Any = True) -> Kernel:
    ports = tuple(programs.ports(program, names, batched) for names in (program.inputs, program.outputs))
    return kernel(program, (ports[0], ports[1]), choices, name)


def named(choices: GpuChoices) -> str:
    return f"lista_{choices.group}_{choices.problems}_{choices.private}_{choices.shared}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    kernels = [prepared(programs.lista(peeled=True), c, named(c)) for c in CHOICES]
    return Library(kernels, tmp_path_factory.mktemp("tvm_cuda"))


def agree(
    library: Library, name: str, inputs: dict[str, np.ndarray], iterations: int | None = None, rtol: float = 1e-5,
    order: int = 0,
) -> None:  # fmt: skip
    """Kernels against the interpreter of loops; the inputs have a batch in front."""
    program = next(k for k in library.kernels if k.name == name).program
    batch = len(next(iter(inputs.values())))
    found, _ = library.launch(name, inputs, batch, iterations, order=order)
    for problem in range(batch):
        wanted = run(program, {name: value[problem] for name, value in inputs.items()}, iterations)
        for port, right in wanted.items():
            scale = max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0)))
            np.testing.assert_allclose(found[port][problem], right, rtol, rtol * scale, err_msg=f"{name} {port}")


@pytest.mark.parametrize("choices", CHOICES, ids=named)
def test_batches_that_do_not_fill_the_blocks(library: Library, choices: GpuChoices) -> None:
    y = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)
    for order in ORDERS:
        agree(library, named(choices), {"y": y}, order=order)
    agree(library, named(choices), {"y": y[:1]}, 2)
