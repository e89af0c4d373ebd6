"""One ONNX file on every core: the answers of ONNX Runtime, and what counting says of the cores."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from solver_zoo.exports import OURS, make_case
from solver_zoo.registry import SOLVERS

import unfoldc
from unfoldc.export import export_onnx
from unfoldc.kernels.pipeline import build_artifact, load_program
from unfoldc.targets.boards import all_targets, find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware
from unfoldc.unfold_train.data.superresolution import SuperResolution
from unfoldc.unfold_train.demo import ITERATIONS, LEARN, TIED, operators
from unfoldc.unfold_train.solvers import SynthesisIsta
from unfoldc.unfold_train.unfolding import unfold

CORES = [t.name for t in all_targets() if t.core is not None and t.core.unicorn_model and t.clock_hz is None]
TOLERANCE = 1e-4  # relative to the norm of the answer
DEFAULT = ("kalman", "total_variation_2d")
# From every field; the first need divisions, roots, exponentials, integers, convolutions and gathers.
SLOW = (
    "admm_lasso", "amp", "chambolle_pock", "convolutional_ista", "fista", "gru_optimiser", "huber", "lista_tied",
    "min_sum", "riccati", "sinkhorn_log", "unfolded_wmmse",
)  # fmt: skip


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """name -> an ONNX file, one problem by input name, and the answers of ONNX Runtime to it."""

    @cache
    def make(name: str) -> tuple[Path, dict[str, np.ndarray], list[np.ndarray]]:
        if name == "demo":
            path, values = demo(tmp_path_factory.mktemp("demo"))
        else:
            case = make_case(SOLVERS[name], OURS)
            some = [a if i in case.entry.shared_inputs else a[:1] for i, a in enumerate(case.inputs)]
            path, values = case.path, tuple(some)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs = dict(zip((i.name for i in session.get_inputs()), values, strict=True))
        return path, inputs, session.run(None, inputs)

    return make


def demo(folder: Path) -> tuple[Path, tuple[np.ndarray, ...]]:
    """The demo's solver as it is before training, and a patch of noise."""
    torch.set_num_threads(1)
    data = SuperResolution()
    network = unfold(SynthesisIsta(**operators(data), rho=1e-3), iterations=ITERATIONS, learn=LEARN, tied=TIED)
    example = torch.zeros(2, data.patch**2)
    export_onnx(network.frozen(), (example,), folder / "demo.onnx", iterations="iteration", check=False)
    return folder / "demo.onnx", (np.random.default_rng(5).random((1, data.patch**2), np.float32),)


def cases() -> list[Any]:
    """Each solver on each core; by default the demo's on all of them, and two more on one of each architecture."""
    some = ("cortex-m7", "rv32imc", "rv64gc", "cortex-a72")
    chosen = [("demo", core) for core in CORES] + [(DEFAULT[i % 2], core) for i, core in enumerate(some)]
    every = [(name, core) for name in ("demo", *DEFAULT, *SLOW) for core in CORES]
    return [pytest.param(*c, marks=[pytest.mark.slow] * (c not in chosen), id="-".join(c)) for c in every]


@pytest.mark.parametrize(("name", "core"), cases())
def test_one_file_gives_the_same_answers_everywhere(problem: Any, name: str, core: str) -> None:
    path, inputs, wanted = problem(name)
    solver = unfoldc.compile(path, target=core, backend="c")
    found = list(solver.run(dict(zip((p.name for p in solver.inputs), inputs.values(), strict=True))).outputs.values())
    for x, right in zip(found, wanted, strict=True):
        assert np.linalg.norm(x.astype(np.float64) - right) <= TOLERANCE * np.linalg.norm(right)


def test_vectors_save_a_third_on_a_cortex_a53(problem: Any, tmp_path: Path) -> None:
    path, _, _ = problem("demo")
    model, program = load_program(path)
    target = find_target("cortex-a53")
    counts = []
    for bits in (0, target.spec.vector_bits):
        artifact = build_artifact(model, program, replace(target.spec, vector_bits=bits), "c", "solver", host=False)
        counts.append(Emulator(build_firmware(artifact, target, tmp_path / str(bits)), artifact, target).count().total)
    assert counts[1] < counts[0] * 2 / 3
