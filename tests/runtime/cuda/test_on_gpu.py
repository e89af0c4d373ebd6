"""On a real GPU, where there is one: everything that the fake ones stand for.

A machine without a compiler takes code made elsewhere: `python tests/runtime/cuda/build_for_gpu.py FOLDER` there, and
UNFOLDC_GPU_CODE=FOLDER here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_artifact import crashing_artifact, cuda_artifact, problems, solution
from gpu_kernels.shared_weights import K as K_LISTED
from gpu_kernels.shared_weights import inputs
from listed_artifact import listed_artifact

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.solver_cuda import CudaSolver
from unfoldc.targets.cuda.build import build_cubins
from unfoldc.targets.cuda.packages import gpus, in_simulator

pytestmark = pytest.mark.skipif(
    in_simulator() or not any(gpu.usable for gpu in gpus()[0]), reason=f"no GPU: {gpus()[1] or 'none that is usable'}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return code_of("solver", cuda_artifact(), tmp_path_factory.mktemp("gpu"))


def code_of(name: str, artifact: Artifact, folder: Path) -> Path:
    """A folder with the artifact's code: made here, or brought here."""
    brought = os.environ.get("UNFOLDC_GPU_CODE")
    if brought:
        return Path(brought) / name
    build_cubins(artifact, folder, also=[gpu.architecture for gpu in gpus()[0]])
    return folder


@pytest.fixture(scope="module")
def solver(folder: Path) -> CudaSolver:
    return solver_of(cuda_artifact(), folder)


def solver_of(artifact: Artifact, folder: Path) -> CudaSolver:
    report = folder / "solver_report.json"
    return CudaSolver(Build(artifact, folder, "cuda", "gpu", report.name), CudaEngine(artifact, report))


@pytest.mark.parametrize("batch", [1, 3, 64, 1000, 100_000])
def test_numpy_arrays(solver: CudaSolver, batch: int) -> None:
    b, matrix = problems(batch)
    np.testing.assert_allclose(solver(b, matrix), solution(solver.artifact, b, matrix), atol=1e-4)
    b[0, 0] = np.nan
    assert np.isnan(solver(b, matrix)[0]).all() and np.isfinite(solver(b, matrix)[1:]).all()


def test_tensors_streams_and_graphs(solver: CudaSolver) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    b, matrix = (torch.from_numpy(array).cuda() for array in problems(70))
    right = solution(solver.artifact, *problems(70))
    for _ in range(3):  # carefully, then the fast way
        answer = solver(b, matrix)
        assert answer.is_cuda and answer.dtype == torch.float32
        np.testing.assert_allclose(answer.cpu(), right, atol=1e-4)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        late = b * 2
        answer = solver(late, matrix)
    side.synchronize()
    np.testing.assert_allclose(answer.cpu(), 2 * right, atol=2e-4)
    call = solver.bind([b, matrix])
    for run in (call, lambda: solver(b, matrix)):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = run()
        kept = b.clone()
        b.mul_(3)
        graph.replay()
        torch.cuda.synchronize()
        np.testing.assert_allclose(answer.cpu(), 3 * right, atol=3e-4)
        b.copy_(kept)
    taken = torch.cuda.memory_allocated()
    for _ in range(10):
        call()
    assert torch.cuda.memory_allocated() == taken


@pytest.mark.parametrize("name", ["cupy", "jax.numpy"])
def test_arrays_of_other_libraries(solver: CudaSolver, name: str) -> None:
    library = pytest.importorskip(name)
    b, matrix = (library.asarray(array) for array in problems(70))
    if name == "jax.numpy" and pytest.importorskip("jax").default_backend() != "gpu":
        pytest.skip("this JAX has no GPU")
    for _ in range(3):
        answer: Any = solver(b, matrix)
        assert type(answer) is type(b)
        found = answer.get() if name == "cupy" else np.asarray(answer)
        np.testing.assert_allclose(found, solution(solver.artifact, *problems(70)), atol=1e-4)


def test_a_profile(solver: CudaSolver) -> None:
    b, matrix = problems(1000)
    profile = solver.profile({"b": b, "M": matrix}, repeats=50)
    assert profile.gpu is not None and profile.gpu.registers > 8
    assert profile.seconds_p50 is not None and 1e-7 < profile.seconds_p50 < 1e-2


def test_a_list_of_launches(tmp_path: Path) -> None:
    one, artifact = listed_artifact(tmp_path)
    (code := tmp_path / "code").mkdir()
    solver = solver_of(artifact, code_of("listed", artifact, code))
    for batch in (1, 3, 300):
        y = inputs(one, batch)
        right = one.answer(y)
        try:
            found = solver(y)
        except ToolError as error:
            pytest.skip(str(error))  # no cuBLAS
        assert np.linalg.norm(found - right) < 1e-5 * np.linalg.norm(right)
    profile = solver.profile({"y": y}, repeats=20)
    assert profile.gpu is not None and profile.gpu.form == "products" and profile.gpu.launches > K_LISTED
    parts = [profile.begin, *profile.iterations, profile.end]
    assert all(part.seconds_p50 is not None and part.seconds_p50 > 0 for part in parts)
    assert sum(part.seconds_p50 or 0.0 for part in parts) == pytest.approx(profile.seconds_p50)
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        return
    tensor = torch.from_numpy(y).cuda()
    call = solver.bind([tensor])
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = call()
    tensor.mul_(2)
    graph.replay()
    torch.cuda.synchronize()
    twice = one.answer(2 * y)
    assert np.linalg.norm(answer.cpu().numpy() - twice) < 1e-5 * np.linalg.norm(twice)


def test_memory_of_answers_is_used_again(solver: CudaSolver) -> None:
    """By way of the interface that libraries without names have; the GPU has more to do than the caller waits for."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")

    class Array:
        def __init__(self, tensor: Any) -> None:
            self.__cuda_array_interface__ = tensor.__cuda_array_interface__

    b, matrix = (torch.from_numpy(array).cuda() for array in problems(70))
    right = solution(solver.artifact, *problems(70))
    addresses = set()
    for _ in range(20):
        answer: Any = solver(Array(b), Array(matrix))
        addresses.add(answer.address)
        np.testing.assert_allclose(answer.numpy(), right, atol=1e-4)
        taken = torch.from_dlpack(answer) * 1
        np.testing.assert_allclose(taken.cpu(), right, atol=1e-4)
        del answer, taken
    assert len(addresses) <= 3


CRASH = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
import numpy as np
from cuda_artifact import K, N, cuda_artifact, problems
from unfoldc.errors import DeviceError
from unfoldc.runtime.cuda.engine import CudaEngine
engine = CudaEngine(cuda_artifact(), Path(sys.argv[2]) / "solver_report.json")
for _ in range(2):
    try:
        engine.solve(problems(3), [np.zeros((3, N), np.float32)], 3, K)
    except DeviceError as error:
        print(error)
"""


def test_a_crashed_kernel_is_one_sentence(tmp_path: Path) -> None:
    code = code_of("crashing", crashing_artifact(), tmp_path)
    arguments = [sys.executable, "-c", CRASH, str(Path(__file__).parents[2]), str(code)]
    done = subprocess.run(arguments, env=dict(os.environ), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a kernel crashed") == 2 and "Traceback" not in done.stderr
