"""NVIDIA's own Python bindings on a libcuda without a GPU: types of arguments, what calls return, nothing left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
PROGRAM = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from cuda_artifact import K, N, cuda_artifact, problems, solution
from cuda_fakes import write_report
from unfoldc.errors import TargetError, ToolError
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.cuda.own_array import CudaArray
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.solver_cuda import CudaSolver
from unfoldc.targets.cuda.packages import gpus

class Array:
    def __init__(self, values):
        self.values = values
        self.__cuda_array_interface__ = {
            "shape": values.shape, "typestr": values.dtype.str, "data": (values.ctypes.data, False), "version": 3,
            "stream": 5,
        }

library = ctypes.CDLL("libcuda.so.1")
folder = Path(sys.argv[2])
(gpu,), reason = gpus()
assert (gpu.name, gpu.architecture, reason) == ("Fake GPU", 90, "")
for cooperative in (False, True):
    artifact = cuda_artifact(workspace_bytes=64, shared_bytes=64 * 1024, cooperative=cooperative)
    report = write_report(folder)
    engine = CudaEngine(artifact, report)
    solver = CudaSolver(Build(artifact, folder, "cuda", "gpu", report.name), engine)
    for batch in (20, 70):
        b, matrix = problems(batch)
        right = solution(artifact, b, matrix)
        np.testing.assert_allclose(solver(b, matrix), right, atol=1e-5)
        arrays = Array(b), Array(matrix)
        answer = solver(*arrays)
        assert type(answer) is CudaArray
        np.testing.assert_allclose(answer.numpy(), right, atol=1e-5)
        answer.__dlpack__(stream=7)
        for _ in range(3):  # in memory that came back
            np.testing.assert_allclose(solver(*arrays).numpy(), right, atol=1e-5)
        output = Array(np.zeros((batch, N), np.float32))
        call = solver.bind(arrays, output)
        before = library.fake_launches()
        assert call() is output and library.fake_launches() == before + 1
        np.testing.assert_allclose(output.values, right, atol=1e-5)
        early = solver.bind(arrays, iterations=2)()
        np.testing.assert_allclose(early.numpy(), solution(artifact, b, matrix, 2), atol=1e-5)
        capturing = [Array(b), Array(matrix)]
        capturing[0].__cuda_array_interface__["stream"] = 0x999
        np.testing.assert_allclose(solver(*capturing).numpy(), right, atol=1e-5)
        profile = solver.profile({"b": arrays[0], "M": arrays[1]}, repeats=3)
        assert profile.gpu.registers == 40 and profile.seconds_p50 > 0
        assert solver.run({"b": arrays[0], "M": arrays[1]}).status.name == "COMPLETE"
    assert library.fake_context_events() >= 4
    try:
        engine.code().memory.allocate(1 << 40, "a test")
        raise SystemExit("memory without end")
    except TargetError as error:
        assert "memory is full (CUDA_ERROR_OUT_OF_MEMORY)" in str(error)
    del call, answer, early, solver, engine, output
    assert library.fake_leaks() == 0, library.fake_leaks()
(folder / "solver.sm_90.cubin").write_bytes(b"no code")
try:
    CudaEngine(artifact, report).solve([b, matrix], [np.zeros((70, N), np.float32)], 70, K)
except ToolError as error:
    assert "not what was compiled" in str(error)
print("solved")
"""


FAILURES = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from cuda_artifact import K, N, cuda_artifact, problems
from cuda_fakes import write_report
from unfoldc.errors import ToolError
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.targets.cuda.packages import gpus

report = write_report(Path(sys.argv[2]))
for variable, number in (line.split() for line in sys.stdin):
    os.environ[variable] = number
    try:
        CudaEngine(cuda_artifact(), report).solve(problems(3), [np.zeros((3, N), np.float32)], 3, K)
    except ToolError as error:
        print(number, error)
    if variable == "FAKE_CUINIT":
        print(number, gpus()[1])
    os.environ[variable] = "0"
"""
# What cuInit or cuModuleLoadData answers -> what the user is told.
SAID = {
    "FAKE_CUINIT 34": "a stub.*CUDA_ERROR_STUB_LIBRARY.*LD_LIBRARY_PATH",
    "FAKE_CUINIT 46": "another process has the GPU to itself",
    "FAKE_CUINIT 100": "starting the driver: the driver finds no GPU .CUDA_ERROR_NO_DEVICE.",
    "FAKE_CUINIT 304": "the operating system refuses the driver",
    "FAKE_CUINIT 802": "the GPUs are not ready",
    "FAKE_CUINIT 803": "the driver was updated while it was loaded.*Restart the machine",
    "FAKE_CUINIT 804": "a compatibility library of CUDA stands before the driver",
    "FAKE_CUINIT 999": "the driver does not work, and does not know why .CUDA_ERROR_UNKNOWN.*nvidia-smi",
    "FAKE_LOAD 200": r"with a driver for CUDA 13\.0: the driver does not know this form of code",
    "FAKE_LOAD 209": r"loading code on Fake GPU with a driver for CUDA 13\.0: the code is for another GPU",
    "FAKE_LOAD 222": "the code is newer than the driver .CUDA_ERROR_UNSUPPORTED_PTX_VERSION.*Update the driver",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libcuda.so.1."""
    pytest.importorskip("cuda.bindings.driver")
    if sys.platform != "linux":
        pytest.skip("shared libraries are found in another way elsewhere")
    folder = tmp_path_factory.mktemp("libcuda")
    source, target = TESTS / "fake_libcuda.c", folder / "libcuda.so.1"
    compiler = ["gcc"] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc"]  # which is slower at first
    command = [*compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", str(target), str(source)], check=True, timeout=300)
    return folder


def test_calls_go_through_nvidias_bindings(library: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    environment.pop("NUMBA_ENABLE_CUDASIM", None)
    arguments = [sys.executable, "-c", PROGRAM, str(TESTS), str(tmp_path)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "solved\n"), done.stderr


def test_a_driver_that_does_not_start_or_refuses_code_is_one_sentence(library: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    environment.pop("NUMBA_ENABLE_CUDASIM", None)
    arguments = [sys.executable, "-c", FAILURES, str(TESTS), str(tmp_path)]
    asked = "\n".join(SAID)
    done = subprocess.run(arguments, input=asked, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    said = [line for line in lines if "back end cuda" in line]
    for (failure, pattern), line in zip(SAID.items(), said, strict=True):
        assert line.startswith(failure.split()[1]) and re.search(pattern, line), line
    assert [line for line in lines if line not in said and "the NVIDIA driver answers CUDA_ERROR_" not in line] == []
