"""The engine of GPUs with a driver that records: what it passes, allocates, copies, gives back when a call fails."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_artifact import K, N, cuda_artifact, problems, solution
from cuda_fakes import fake, write_report
from fake_cuda import CUresult, FakeDriver

from unfoldc.errors import DeviceError, InputError, TargetError, ToolError, UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.engine import CudaEngine, check_batch
from unfoldc.runtime.cuda.kernel import Arguments

ALLOCATIONS = ("cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "cuModuleLoadData", "cuEventCreate")


def engine_of(api: FakeDriver, artifact: Artifact, report: Path) -> CudaEngine:
    return CudaEngine(artifact, report, Driver(api))


def solve(engine: CudaEngine, batch: int, iterations: int = K, seed: int = 1) -> np.ndarray:
    x = np.full((batch, N), np.nan, np.float32)
    engine.solve(problems(batch, seed), [x], batch, iterations)
    return x


@pytest.mark.parametrize("batch", [1, 5, 64, 300])
def test_solves(artifact: Artifact, report: Path, batch: int) -> None:
    engine = engine_of(fake(), artifact, report)
    for iterations in (K, 2):
        x = solve(engine, batch, iterations)
        np.testing.assert_allclose(x, solution(artifact, *problems(batch), iterations), atol=1e-5)


def test_arguments_are_packed_word_by_word(artifact: Artifact, report: Path) -> None:
    api = fake()
    engine = engine_of(api, artifact, report)
    solve(engine, 3, 4)
    b, matrix, x, weights, workspace, batch, iterations, ticks = api.launches[0].words
    starts = sorted(api.device_memory)
    assert {b, x, weights} <= set(starts)
    assert matrix == b + 256  # both inputs in one block, aligned
    assert (workspace, batch, iterations, ticks) == (0, 3, 4, 0)
    packed = Arguments(3)
    packed.pack([2**64 - 1, 7, 65536])
    assert packed.words() == struct.pack("<QQQ", 2**64 - 1, 7, 65536)
    assert struct.unpack("<i", packed.words()[8:12]) == (7,)  # a 32-bit number is the low half of its word


def test_the_form_and_the_blocks_follow_the_batch(artifact: Artifact, report: Path) -> None:
    api = fake(multiprocessors=3, resident=2)
    engine = engine_of(api, artifact, report)
    for batch in (1, 4, 5, 63, 64, 1000):
        solve(engine, batch)
    found = [(launch.kernel, launch.blocks, launch.threads, launch.shared) for launch in api.launches]
    one, many = ("solve_one", "solve_many")
    assert found == [(one, 1, 32, 128), (one, 1, 32, 128), (one, 2, 32, 128), (one, 6, 32, 128), (many, 6, 32, 128),
                     (many, 6, 32, 128)]  # fmt: skip


def test_nothing_is_allocated_after_the_first_call_with_a_shape(artifact: Artifact, report: Path) -> None:
    api = fake()
    engine = engine_of(api, artifact, report)
    for batch in (100, 3):
        solve(engine, batch)
    api.calls.clear()
    for seed in range(5):
        for batch in (3, 100, 50):
            x = solve(engine, batch, seed=seed)
            np.testing.assert_allclose(x, solution(artifact, *problems(batch, seed)), atol=1e-5)
    assert not set(ALLOCATIONS) & set(api.names())
    assert api.names().count("cuMemcpyHtoDAsync") == api.names().count("cuMemcpyDtoHAsync") == 15


def test_copies_and_launch_go_one_after_the_other_in_one_stream(artifact: Artifact, report: Path) -> None:
    api = fake()
    engine = engine_of(api, artifact, report)
    solve(engine, 3)
    api.calls.clear()
    solve(engine, 3)
    done = [call for call in api.calls if not call[0].startswith("cuCtx")]
    assert [c[0] for c in done] == ["cuMemcpyHtoDAsync", "cuLaunchKernel", "cuMemcpyDtoHAsync", "cuStreamSynchronize"]
    streams = {done[0][-1], done[1][-3], done[2][-1], done[3][-1]}
    assert len(streams) == 1 and streams <= api.streams


def test_the_callers_context_is_current_again_afterwards(artifact: Artifact, report: Path) -> None:
    api = fake()
    api.current = 99
    solve(engine_of(api, artifact, report), 3)
    assert api.current == 99


def test_workspace_is_zeroed_once_and_as_large_as_all_blocks_need(report: Path) -> None:
    api = fake(multiprocessors=3, resident=2)
    engine = engine_of(api, cuda_artifact(workspace_bytes=1000), report)
    for batch in (1, 100, 1):
        solve(engine, batch)
    fills = [call for call in api.calls if call[0] == "cuMemsetD8Async"]
    # Each form has its own: what one leaves there must not be taken for another's words at which blocks wait.
    assert [call[2:4] for call in fills] == [(0, 6000), (0, 6000)]
    assert [launch.words[4] for launch in api.launches] == [fills[0][1], fills[1][1], fills[0][1]]
    assert fills[0][1] != fills[1][1]


def test_a_cooperative_form_takes_all_blocks_that_run_at_once(report: Path) -> None:
    api = fake(multiprocessors=3, resident=2)
    engine = engine_of(api, cuda_artifact(cooperative=True, workspace_bytes=64), report)
    solve(engine, 1)
    launch = api.launches[0]
    assert launch.cooperative and launch.blocks == 6
    assert [call[3] for call in api.calls if call[0] == "cuMemsetD8Async"] == [64]
    solve(engine_of(api, cuda_artifact(cooperative=True, blocks=2), report), 1)
    assert api.launches[-1].blocks == 2


def test_an_empty_batch_does_not_even_open_the_driver(artifact: Artifact, report: Path) -> None:
    api = fake()
    engine = CudaEngine(artifact, report)
    assert solve(engine, 0).shape == (0, N)
    engine = engine_of(api, artifact, report)
    solve(engine, 0)
    assert not api.launches


def test_stamps_become_the_mean_of_the_blocks(artifact: Artifact, report: Path) -> None:
    engine = engine_of(fake(), artifact, report)
    ticks, x = np.zeros(K + 2, np.uint64), np.zeros((20, N), np.float32)
    for _ in range(2):
        engine.profile(problems(20), [x], 20, K, ticks)
    assert ticks.tolist() == [20] * (K + 1) + [200]
    np.testing.assert_allclose(x, solution(artifact, *problems(20)), atol=1e-5)
    engine.profile(problems(20), [x], 20, 2, early := np.zeros(K + 2, np.uint64))
    assert early.tolist() == [10, 10, 10, 0, 0, 0, 100]


def test_code_of_the_same_generation_is_chosen(artifact: Artifact, report: Path) -> None:
    for architecture, built_for in ((80, 80), (86, 80), (89, 80), (90, 90)):
        code = engine_of(fake(architecture=architecture), artifact, report).code()
        assert (code.architecture, code.built_for) == (architecture, built_for)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [(75, "compute capability is 7.5; allowed: 8.0 or later"), (100, "compiled for sm_80, sm_90; .*code for sm_100")],
)
def test_a_gpu_without_code_is_refused(artifact: Artifact, report: Path, architecture: int, message: str) -> None:
    api = fake(architecture=architecture)
    with pytest.raises(ToolError, match=message):
        solve(engine_of(api, artifact, report), 1)
    assert not api.leaks()


def test_damaged_and_missing_code_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    report = write_report(tmp_path)
    (tmp_path / "solver.sm_90.cubin").write_bytes(b"other")
    with pytest.raises(ToolError, match="not what was compiled"):
        solve(engine_of(fake(), artifact, report), 1)
    (tmp_path / "solver.sm_90.cubin").unlink()
    with pytest.raises(ToolError, match="cannot be read"):
        solve(engine_of(fake(), artifact, report), 1)
    with pytest.raises(ToolError, match="compiled for no GPU, but for numba's simulator"):
        solve(engine_of(fake(), artifact, write_report(tmp_path, ())), 1)


def calls_of_a_solve(artifact: Artifact, report: Path) -> int:
    api = fake()
    engine = engine_of(api, artifact, report)
    api.calls.clear()
    solve(engine, 3)
    return len(api.calls)


def test_nothing_leaks_wherever_a_call_fails(report: Path) -> None:
    artifact = cuda_artifact(workspace_bytes=64, shared_bytes=64 * 1024)
    for failing in range(calls_of_a_solve(artifact, report)):
        api = fake()
        engine = engine_of(api, artifact, report)
        api.fail_at, done = failing, len(api.calls)
        try:
            solve(engine, 3)
        except UnfoldcError as error:
            assert "OUT_OF_MEMORY" in str(error)
        else:
            assert api.calls[done + failing][0] in ("cuCtxSetCurrent", "cuCtxGetCurrent"), api.calls[done + failing]
        x = solve(engine, 3)  # the next call is a good one
        np.testing.assert_allclose(x, solution(artifact, *problems(3)), atol=1e-5)
        engine.close()
        assert not api.leaks(), (failing, api.calls[done + failing], api.leaks())


def test_an_engine_gives_everything_back_when_it_is_dropped(artifact: Artifact, report: Path) -> None:
    api = fake()
    engine = engine_of(api, artifact, report)
    solve(engine, 3)
    assert api.leaks()
    del engine
    assert not api.leaks()


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (CUresult.CUDA_ERROR_OUT_OF_MEMORY, TargetError, "memory is full .*Solve fewer problems at once"),
        (CUresult.CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, TargetError, "more registers or threads than the GPU has"),
        (CUresult.CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, TargetError, "more blocks than can run at once"),
        (CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, DeviceError, "a kernel crashed.*lost to this process.*new process"),
        (CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU, ToolError, "for another GPU.*Compile the model again"),
        (CUresult.CUDA_ERROR_NOT_INITIALIZED, DeviceError, "the process was forked.*'spawn'"),
        (CUresult.CUDA_ERROR_INVALID_VALUE, DeviceError, "the driver answers CUDA_ERROR_INVALID_VALUE"),
    ],
)
def test_each_failure_is_one_sentence(
    artifact: Artifact, report: Path, failure: CUresult, kind: type[UnfoldcError], message: str
) -> None:
    api = fake()
    engine = engine_of(api, artifact, report)
    solve(engine, 3)
    api.calls.clear()
    solve(engine, 3)
    launch = api.names().index("cuLaunchKernel")
    api.failure, api.fail_at = failure, launch
    with pytest.raises(kind, match=message) as caught:
        solve(engine, 3)
    assert "launching 1 blocks of 32 threads" in caught.value.where


def test_no_gpu_and_no_driver_are_one_sentence(artifact: Artifact, report: Path) -> None:
    with pytest.raises(ToolError, match="the driver finds no GPU"):
        solve(engine_of(fake(gpus=0), artifact, report), 1)
    with pytest.raises(ToolError, match="there is no GPU 3; allowed: 0 to 0"):
        engine_of(fake(), artifact, report).code(3)

    class Missing:
        def cuInit(self, flags: int) -> Any:
            raise RuntimeError("deep within a library")

    with pytest.raises(ToolError, match="no NVIDIA driver is installed"):
        Driver(Missing())


def test_a_block_that_fits_no_multiprocessor_is_refused(artifact: Artifact, report: Path) -> None:
    with pytest.raises(TargetError, match="a block of 32 threads does not fit"):
        solve(engine_of(fake(resident=0), artifact, report), 1)
    with pytest.raises(TargetError, match="128 bytes of shared memory; allowed: 100 bytes"):
        solve(engine_of(fake(most_shared=100), artifact, report), 1)


def test_more_problems_than_a_kernel_counts_are_refused() -> None:
    with pytest.raises(InputError, match="up to 2147483647"):
        check_batch(2**31)


def test_threads_share_no_memory(artifact: Artifact, report: Path) -> None:
    api = fake()
    engine = engine_of(api, artifact, report)
    wrong: list[int] = []

    def many(seed: int) -> None:
        for _ in range(20):
            if not np.allclose(solve(engine, 9, seed=seed), solution(artifact, *problems(9, seed)), atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=many, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    engine.close()
    assert not api.leaks()
