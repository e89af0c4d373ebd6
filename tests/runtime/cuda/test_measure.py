"""A profile on a fake GPU, whose clock counts the driver's calls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cuda_artifact import K, cuda_artifact, problems
from cuda_fakes import fake
from fake_gpu_arrays import Tensor, install

from unfoldc.errors import UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.solver_cuda import CudaSolver


def solver_of(api: object, artifact: Artifact, report: Path) -> CudaSolver:
    engine = CudaEngine(artifact, report, Driver(api))
    return CudaSolver(Build(artifact, report.parent, "cuda", "gpu", report.name), engine)


def test_a_profile_has_times_errors_and_what_the_kernel_takes(artifact: Artifact, report: Path) -> None:
    api = fake()
    b, matrix = problems(20)
    profile = solver_of(api, artifact, report).profile({"b": b, "M": matrix}, repeats=100)
    assert (profile.batch, profile.repeats, len(profile.iterations)) == (20, 100, K)
    parts = [profile.begin, *profile.iterations, profile.end]
    # The fake kernel's parts take equal times, but for end, which takes ten; they add up to a launch.
    assert profile.seconds_p50 == pytest.approx(2e-6)  # two calls of the driver, 1 us each
    assert sum(part.seconds_p50 or 0.0 for part in parts) == pytest.approx(profile.seconds_p50)
    assert [round(1e9 * (part.seconds_p50 or 0.0)) for part in parts] == [125] * (K + 1) + [1250]
    assert profile.iterations[-1].error == 0 and (profile.iterations[0].error or 0) > 0
    gpu = profile.gpu
    assert gpu is not None
    assert (gpu.device, gpu.architecture, gpu.built_for, gpu.form) == ("Fake GPU", "sm_90", "sm_90", "one")
    assert (gpu.blocks, gpu.threads, gpu.problems, gpu.registers, gpu.local_bytes) == (5, 32, 4, 40, 24)
    assert (gpu.spill_stores, gpu.spill_loads, gpu.shared_bytes) == (8, 16, 16 + 128)
    assert gpu.resident_blocks == 2 and gpu.occupancy == 2 * 32 / 2048
    text = str(profile)
    assert "40 registers and 24 bytes of local memory a thread (spills: 8 bytes stored, 16 loaded)" in text
    assert "2 blocks on each of 4 multiprocessors, occupancy 3%" in text and "putting a launch into a stream" in text
    assert json.loads(profile.to_json())["gpu"]["registers"] == 40


def test_what_a_profile_took_is_given_back(artifact: Artifact, report: Path) -> None:
    api = fake()
    solver = solver_of(api, artifact, report)
    b, matrix = problems(3)
    solver.profile({"b": b, "M": matrix}, repeats=3)
    assert not api.events and len(api.streams) == 2
    before = len(api.device_memory)
    solver.profile({"b": b, "M": matrix}, repeats=3)
    assert len(api.device_memory) == before
    solver._engine.close()
    assert not api.leaks()


def test_nothing_leaks_wherever_a_profile_fails(report: Path) -> None:
    artifact = cuda_artifact(workspace_bytes=64)
    b, matrix = problems(3)
    for failing in (*range(40, 60), 200, 300):
        api = fake()
        solver = solver_of(api, artifact, report)
        api.fail_at, done = failing, len(api.calls)
        try:
            solver.profile({"b": b, "M": matrix}, repeats=2)
        except UnfoldcError as error:
            assert "OUT_OF_MEMORY" in str(error)
        if api.names()[done + failing] == "cuEventDestroy":
            api.events.clear()  # the driver kept it
        assert not api.events
        solver._engine.close()
        assert not api.leaks()


def test_arrays_on_a_gpu_are_profiled_too(artifact: Artifact, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = fake()
    install(api, monkeypatch)
    b, matrix = (Tensor(api, values) for values in problems(70))
    profile = solver_of(api, artifact, report).profile({"b": b, "M": matrix}, repeats=2)
    assert profile.gpu is not None and profile.gpu.form == "many"
    assert np.isfinite(profile.seconds_p99 or np.nan)
