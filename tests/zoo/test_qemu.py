"""Whole solvers on QEMU: the bits and counts of unicorn after every iteration, and the Cortex-M55 beside PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from solver_zoo.compare import compiled, errors, named_inputs
from solver_zoo.exports import OURS, make_case
from solver_zoo.registry import SOLVERS
from tools_at_hand import needs_tool

import unfoldc
from unfoldc.export import export_onnx
from unfoldc.runtime import Solver
from unfoldc.targets.qemu import MACHINES
from unfoldc.unfold_train.data.superresolution import SuperResolution
from unfoldc.unfold_train.demo import ITERATIONS, LEARN, TIED, operators
from unfoldc.unfold_train.solvers import SynthesisIsta
from unfoldc.unfold_train.unfolding import unfold

pytestmark = needs_tool("qemu-system-arm", "qemu-system-riscv32", "qemu-system-riscv64")

CORES = [name for name in MACHINES if name != "cortex-m55"]
NAMES = ("demo", "kalman", "total_variation_2d", "sinkhorn")
DEFAULT = [("demo", "cortex-m7")]
HELIUM = ("huber",)


def cases() -> list[object]:
    every = [(name, core) for name in NAMES for core in CORES]
    return [pytest.param(*c, marks=[pytest.mark.slow] * (c not in DEFAULT), id="-".join(c)) for c in every]


def demo(folder: Path) -> Path:
    """The demo's solver as it is before training."""
    torch.set_num_threads(1)
    data = SuperResolution()
    network = unfold(SynthesisIsta(**operators(data), rho=1e-3), iterations=ITERATIONS, learn=LEARN, tied=TIED)
    example = torch.zeros(2, data.patch**2)
    export_onnx(network.frozen(), (example,), folder / "demo.onnx", iterations="iteration", check=False)
    return folder / "demo.onnx"


@pytest.mark.parametrize(("name", "core"), cases())
def test_unicorn_and_qemu_agree_on_every_iterate(name: str, core: str, tmp_path: Path) -> None:
    if name == "demo":
        path = demo(tmp_path)
        first, second = unfoldc.compile(path, core), unfoldc.compile(path, core, on="qemu")
        rng = np.random.default_rng(5)
        inputs = {p.name: rng.random((1, *p.shape), np.float32) for p in first.inputs}
    else:
        case = make_case(SOLVERS[name], OURS)
        first, second = compiled(case, target=core), unfoldc.compile(case.path, core, on="qemu")
        inputs = named_inputs(first, case, 1)
    for k in [None] if first.artifact.early_stop else range(1, first.iterations + 1):
        found, wanted = second.run(inputs, k).outputs, first.run(inputs, k).outputs
        assert all(found[n].tobytes() == wanted[n].tobytes() for n in wanted)
    assert instructions(second, inputs) == instructions(first, inputs)


def instructions(solver: Solver, inputs: dict[str, np.ndarray]) -> list[int | None]:
    profile = solver.profile(inputs)
    return [row.instructions for row in (profile.begin, *profile.iterations, profile.end)]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in HELIUM)) for n in SOLVERS])
def test_the_zoo_on_a_cortex_m55(name: str) -> None:
    case = make_case(SOLVERS[name], replace(OURS, dynamic=SOLVERS[name].dynamic))
    assert max(errors(compiled(case, target="cortex-m55"), case, problems=1)) < case.tolerance
