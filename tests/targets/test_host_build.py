from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.host_build import build_library
from unfoldc.targets.toolchains import CompilerError

K = 4


def solve(library: Path, y: np.ndarray, iterations: int = K) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (batch, 9) and ticks (K + 2,) of a problem batch (batch, 5)."""
    lib: Any = ctypes.CDLL(str(library))
    lib.solver_host_workspace.restype = ctypes.c_long
    x = np.full((len(y), 9), np.nan, np.float32)
    ticks = np.zeros(K + 2, np.uint64)
    workspace = np.zeros(lib.solver_host_workspace() + 64, np.uint8)
    aligned = -(-workspace.ctypes.data // 64) * 64
    inputs, outputs = (ctypes.c_void_p * 1)(y.ctypes.data), (ctypes.c_void_p * 1)(x.ctypes.data)
    common = (ctypes.c_void_p(aligned), inputs, outputs, ctypes.c_long(len(y)), iterations)
    lib.solver_host_solve(*common)
    first = x.copy()
    lib.solver_host_profile(*common, ctypes.c_void_p(ticks.ctypes.data))
    np.testing.assert_array_equal(x, first)
    return x, ticks


@pytest.fixture(scope="module")
def library(lista: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(lista.artifact("host"), tmp_path_factory.mktemp("host"), strict=True)


@pytest.mark.parametrize("iterations", range(K + 1))
def test_answers_equal_numpys_after_each_iteration(
    lista: Any, library: Path, problems: np.ndarray, iterations: int
) -> None:
    x, ticks = solve(library, problems, iterations)
    expected = np.stack([lista.solve(y, iterations) for y in problems])
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert (ticks[1 : 1 + iterations] > 0).all() and (ticks[1 + iterations : -1] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_fast_math_keeps_nan_and_inf(library: Path, value: float) -> None:
    x, _ = solve(library, np.array([[value, 0, 0, 0, 0]], np.float32), 1)
    assert (~np.isfinite(x)).all()


def test_only_the_library_is_left_in_the_folder(library: Path) -> None:
    assert [p.name for p in library.parent.iterdir()] == ["solver.so"]


def test_output_depends_on_the_sources_alone(lista: Any, library: Path, tmp_path: Path) -> None:
    again = build_library(lista.artifact("host"), tmp_path / "elsewhere", strict=True)
    assert again.read_bytes() == library.read_bytes()


def test_strict_refuses_a_warning_that_others_tolerate(lista: Any, tmp_path: Path) -> None:
    artifact = lista.artifact("host", extra__c="float f(double x);\nfloat f(double x) { return x; }\n")
    build_library(artifact, tmp_path)
    before = (tmp_path / "solver.so").read_bytes()
    with pytest.raises(
        CompilerError, match="building solver.so: .*extra.c:2:.*implicit conversion loses floating-point precision"
    ):
        build_library(artifact, tmp_path, strict=True)
    assert (tmp_path / "solver.so").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_double_promotion_is_refused_too(lista: Any, tmp_path: Path) -> None:
    artifact = lista.artifact("host", extra__c="double f(float x);\ndouble f(float x) { return x * 2.0; }\n")
    with pytest.raises(CompilerError, match="implicit conversion increases floating-point precision"):
        build_library(artifact, tmp_path, strict=True)


def test_sanitize_traps_undefined_behaviour(lista: Any, library: Path, problems: np.ndarray, tmp_path: Path) -> None:
    overflow = "int f(int a);\nint f(int a) { return a + 1; }\n"
    built = build_library(lista.artifact("host", extra__c=overflow), tmp_path, strict=True, sanitize=True)
    np.testing.assert_allclose(solve(built, problems)[0], solve(library, problems)[0], atol=1e-6)
    call = f"import ctypes; print(ctypes.CDLL({str(built)!r}).f({{}}))"
    fine = subprocess.run([sys.executable, "-c", call.format(1)], capture_output=True, text=True)
    assert fine.stdout == "2\n"
    trapped = subprocess.run([sys.executable, "-c", call.format(2**31 - 1)], capture_output=True, text=True)
    assert trapped.returncode < 0 and trapped.stdout == ""


def test_objects_are_linked(lista: Any, tmp_path: Path) -> None:
    (tmp_path / "g.c").write_text("int g(void) { return 42; }\n")
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-fPIC", "-c", "g.c", "-o", "g.o"], cwd=tmp_path, check=True)
    artifact = lista.artifact("host", extra__c="int g(void);\nint f(void);\nint f(void) { return g(); }\n")
    with pytest.raises(CompilerError, match="undefined symbol: g"):
        build_library(artifact, tmp_path / "without")
    library = build_library(artifact, tmp_path / "with", objects=[tmp_path / "g.o"])
    assert ctypes.CDLL(str(library)).f() == 42


def test_flags_come_last(lista: Any, tmp_path: Path) -> None:
    artifact = lista.artifact("host", extra__c="int f(void);\nint f(void) { return VALUE; }\n")
    assert ctypes.CDLL(str(build_library(artifact, tmp_path, flags=["-DVALUE=7"]))).f() == 7


def test_functions_of_the_maths_library_are_there(lista: Any, tmp_path: Path) -> None:
    source = "double erf(double x);\ndouble f(double x);\ndouble f(double x) { return erf(x); }\n"
    f = ctypes.CDLL(str(build_library(lista.artifact("host", extra__c=source), tmp_path))).f
    f.restype, f.argtypes = ctypes.c_double, [ctypes.c_double]
    assert f(0.5) == pytest.approx(0.5204998778130465)


def test_an_artifact_without_c_sources_is_refused(
    lista: Any, with_sources: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = replace(lista.artifact("host"), sources={"solver.py": ""}, backend="numba")
    with pytest.raises(ToolError, match="building solver for host: the back end 'numba' made no C sources"):
        build_library(artifact, tmp_path)


def test_builds_in_one_folder_do_not_disturb_each_other(lista: Any, problems: np.ndarray, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def build(flag: int) -> None:
        try:
            build_library(lista.artifact("host"), tmp_path, flags=[f"-DVARIANT={flag}"])
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=build, args=(i % 2,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert [p.name for p in tmp_path.iterdir()] == ["solver.so"]
    np.testing.assert_allclose(solve(tmp_path / "solver.so", problems)[0][0], lista.solve(problems[0]), atol=1e-6)
