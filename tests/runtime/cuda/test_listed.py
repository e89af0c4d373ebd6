"""Lists of launches on a driver and a library of products that are stand-ins, on this computer's memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cuda_fakes import write_report
from fake_cublas import FakeCublas
from fake_cuda import FakeDriver
from gpu_kernels import one_thread
from gpu_kernels.shared_weights import SOLVERS, K, Solver, inputs

from unfoldc.errors import DeviceError, ToolError
from unfoldc.kernels import gpu_build
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.engine_cuda import CudaEngine
from unfoldc.targets.cuda.target import CUDA


@dataclass
class Rig:
    """An engine with what it runs on."""

    artifact: Artifact
    engine: CudaEngine
    driver: FakeDriver
    blas: FakeCublas

    def solve(self, y: np.ndarray, iterations: int = K, ticks: np.ndarray | None = None) -> np.ndarray:
        n = self.artifact.outputs[0].shape[0]
        x = np.full((len(y), n), np.inf, y.dtype)
        if ticks is None:
            self.engine.solve([y], [x], len(y), iterations)
        else:
            self.engine.profile([y], [x], len(y), iterations, ticks)
        return x


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for every batch, and for weights of any size."""
    made = gpu_build.product_form
    monkeypatch.setattr(gpu_build, "product_form", lambda *a, **k: made(*a, **k, from_batch=1, least=4))


def rig(solver: Solver, folder: Path, dtype: str = "float32") -> Rig:
    artifact = compile_onnx(solver.save(folder, dtype), CUDA.spec, "cuda")
    driver, blas = FakeDriver({}, 0), FakeCublas()

    def size(address: int) -> int:
        for table in (driver.device_memory, driver.pinned):
            for start, block in table.items():
                if start <= address < start + block.size - 256:
                    return start + block.size - 256 - address
        raise AssertionError(f"nothing is at {address}")

    driver.kernels = dict(one_thread.kernels(artifact, size))
    driver.count_words = len(json.loads(artifact.sources["solver_launch.json"])["parameters"])
    return Rig(artifact, CudaEngine(artifact, write_report(folder), Driver(driver, blas)), driver, blas)


@pytest.fixture(params=SOLVERS, ids=lambda s: s.name)
def one(request: pytest.FixtureRequest, tmp_path: Path, forced: None) -> Iterator[tuple[Solver, Rig]]:
    made = rig(request.param, tmp_path)
    yield request.param, made
    made.engine.close()
    assert not made.driver.leaks() and not made.blas.handles


def agree(found: np.ndarray, right: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, right, atol=tolerance * max(1.0, float(np.linalg.norm(right))))


def test_answers_are_those_of_the_solver(one: tuple[Solver, Rig]) -> None:
    solver, found = one
    for batch in (1, 3, 8):
        for iterations in (K, 1, K - 1):
            y = inputs(solver, batch)
            agree(found.solve(y, iterations), solver.answer(y, iterations))
    assert found.blas.calls and found.blas.mode == 0  # float32 as it is, never TF32


def test_nan_and_infinity_are_kept_in_their_problem(one: tuple[Solver, Rig]) -> None:
    solver, found = one
    y = inputs(solver, 3)
    y[0, 1], y[1, 2] = np.nan, np.inf
    x, right = found.solve(y), solver.answer(y)
    agree(x[2], right[2])
    assert np.isnan(x[0]).any() and np.isfinite(x[2]).all()
    assert (np.isnan(x) == np.isnan(right)).all()
