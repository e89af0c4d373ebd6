"""Lists of launches on a driver and a library of products that are stand-ins, on this computer's memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_fakes import write_report
from fake_cublas import FakeCublas
from fake_cuda import FakeDriver
from fake_gpu_arrays import Tensor, install
from gpu_kernels import one_thread
from gpu_kernels.shared_weights import SOLVERS, K, Solver, inputs

from unfoldc.errors import DeviceError, ToolError
from unfoldc.kernels import gpu_build
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.gpu.product_form import product_form
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.solver_cuda import CudaSolver
from unfoldc.targets.cuda.target import CUDA


@dataclass
class Rig:
    """An engine with what it runs on."""

    artifact: Artifact
    engine: CudaEngine
    driver: FakeDriver
    blas: FakeCublas
    report: Path

    @cached_property
    def solver(self) -> CudaSolver:
        return CudaSolver(Build(self.artifact, self.report.parent, "cuda", "gpu", self.report.name), self.engine)

    def solve(self, y: np.ndarray, iterations: int = K, ticks: np.ndarray | None = None) -> np.ndarray:
        x = np.full((len(y), *self.artifact.outputs[0].shape), np.inf, y.dtype)
        if ticks is None:
            self.engine.solve([y], [x], len(y), iterations)
        else:
            self.engine.profile([y], [x], len(y), iterations, ticks)
        return x


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for every batch, and for weights of any size."""
    monkeypatch.setattr(gpu_build, "product_form", partial(product_form, from_batch=1, least=4))


def rig(solver: Solver, folder: Path, dtype: str = "float32", **options: Any) -> Rig:
    artifact = compile_onnx(solver.save(folder, dtype), CUDA.spec, "cuda", **options)
    driver, blas = FakeDriver({}, 0), FakeCublas()

    def size(address: int) -> int:
        for table in (driver.device_memory, driver.pinned, driver.others):
            for start, block in table.items():
                if start <= address < start + block.size - 256:
                    return start + block.size - 256 - address
        raise AssertionError(f"nothing is at {address}")

    driver.kernels = dict(one_thread.kernels(artifact, size))
    driver.count_words = len(json.loads(artifact.sources["solver_launch.json"])["parameters"])
    report = write_report(folder)
    return Rig(artifact, CudaEngine(artifact, report, Driver(driver, blas)), driver, blas, report)


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
    y[0, ..., 1], y[1, ..., 2] = np.nan, np.inf
    x, right = found.solve(y), solver.answer(y)
    agree(x[2], right[2])
    assert np.isnan(x[0]).any() and np.isfinite(x[2]).all()
    assert (np.isnan(x) == np.isnan(right)).all()


@pytest.fixture
def lista(tmp_path: Path, forced: None) -> Iterator[Rig]:
    made = rig(SOLVERS[1], tmp_path)
    yield made
    made.engine.close()
    assert not made.driver.leaks() and not made.blas.handles


def test_products_of_float64_are_of_that_type(tmp_path: Path, forced: None) -> None:
    solver = SOLVERS[0]
    found = rig(solver, tmp_path, "float64")
    y = inputs(solver, 3).astype(np.float64)
    agree(found.solve(y), solver.answer(y), 1e-13)
    assert {call[0] for call in found.blas.calls} == {"float64"}
    found.engine.close()


def test_factors_are_rounded_only_where_that_is_asked_for(tmp_path: Path, forced: None) -> None:
    found = rig(SOLVERS[0], tmp_path, allow_tf32=True)
    found.solve(inputs(SOLVERS[0], 3))
    assert found.blas.mode == 3
    found.engine.close()


def test_launches_go_into_the_callers_stream_and_allocate_nothing(lista: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    install(lista.driver, monkeypatch)
    y = inputs(SOLVERS[1], 5)
    tensor = Tensor(lista.driver, y)
    agree(lista.solver(tensor).values(), SOLVERS[1].answer(y))
    for context in (0, lista.engine.code().context):  # the second time by the fast way of known shapes
        lista.driver.current = context
        lista.driver.calls.clear()
        lista.blas.calls.clear()
        agree(lista.solver(tensor).values(), SOLVERS[1].answer(y))
        names = [name for name in lista.driver.names() if not name.startswith(("cuCtx", "cuStreamIs"))]
        assert names == ["cuLaunchKernel"] * (2 + K)
        assert {launch.stream for launch in lista.driver.launches} == {71}  # torch's
        assert [call[-1] for call in lista.blas.calls] == [71] * 2 * K


def test_a_bound_call_has_its_own_memory_and_can_be_captured(lista: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    install(lista.driver, monkeypatch)
    y = inputs(SOLVERS[1], 5)
    tensor = Tensor(lista.driver, y)
    one, other = lista.solver.bind({"y": tensor}), lista.solver.bind({"y": tensor}, iterations=2)
    for _ in range(2):
        agree(one().values(), SOLVERS[1].answer(y))
        agree(other().values(), SOLVERS[1].answer(y, 2))
    first, second = (call[7] for call in (lista.blas.calls[0], lista.blas.calls[2 * K]))
    assert first == second  # the weights are shared
    outs = {call[12] for call in lista.blas.calls}
    assert len(outs) == 2  # the workspaces are not
    lista.driver.capturing.add(71)
    lista.blas.capturing.add(71)
    lista.driver.calls.clear()
    one()
    lista.solver(tensor)
    assert set(lista.driver.names()) <= {
        "cuCtxGetCurrent", "cuCtxSetCurrent", "cuLaunchKernel", "cuStreamIsCapturing", "cuMemAlloc",
        "cuThreadExchangeStreamCaptureMode", "cuMemsetD8Async", "cuStreamSynchronize",
    }  # fmt: skip
    del one, other


def test_a_profile_takes_the_time_of_each_part(lista: Rig) -> None:
    y = inputs(SOLVERS[1], 4)
    ticks = np.zeros(K + 2)
    agree(lista.solve(y, ticks=ticks), SOLVERS[1].answer(y))
    assert (ticks > 0).all()
    names = [name for name in lista.driver.names() if name in ("cuEventRecord", "cuLaunchKernel")]
    # An event before begin and behind each part; beside kernels there are products, which are no calls of the driver.
    each = ["cuLaunchKernel", "cuEventRecord"]
    assert names == ["cuEventRecord", *each * (K + 2)]
    assert len(lista.driver.launches) == K + 2 and not lista.driver.events
    early = np.zeros(K + 2)
    agree(lista.solve(y, 2, early), SOLVERS[1].answer(y, 2))
    assert (early[:3] > 0).all() and not early[3 : K + 1].any() and early[K + 1] > 0


def test_a_profile_says_how_many_launches_there_are(lista: Rig) -> None:
    profile = lista.solver.profile({"y": inputs(SOLVERS[1], 300)}, repeats=3)
    assert profile.gpu is not None and (profile.gpu.launches, profile.gpu.blocks) == (3 * K + 2, 12)
    shape = "form products: 14 launches, each for the whole batch; the largest kernel has 12 blocks of 256 threads"
    assert shape in str(profile)


def test_where_the_library_is_missing_or_fails_is_said(tmp_path: Path, forced: None) -> None:
    found = rig(SOLVERS[0], tmp_path)
    y = inputs(SOLVERS[0], 3)
    found.blas.missing = True
    with pytest.raises(ToolError, match=r"cuBLAS cannot be loaded.*pip install nvmath-python"):
        found.solve(y)
    found.blas.missing, found.blas.failing = False, True
    with pytest.raises(DeviceError, match="cuBLAS answers CUBLAS_STATUS_EXECUTION_FAILED"):
        found.solve(y)
    found.blas.failing = False
    agree(found.solve(y), SOLVERS[0].answer(y))
    found.engine.close()
    assert not found.driver.leaks()
