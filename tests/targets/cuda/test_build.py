"""Machine code for GPUs, made without one."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from cuda_artifact import cuda_artifact

from unfoldc.errors import ToolError
from unfoldc.targets.cuda import build
from unfoldc.targets.cuda.build import build_cubins

needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None and sys.platform != "linux", reason="NVIDIA has no packages for it"
)

_KERNEL = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def solve_one(x_data: T.handle("float32", "global")):
        T.func_attr({"global_symbol": "solve_one", "calling_conv": 2})
        thread = T.launch_thread("threadIdx.x", 32)
        x = T.decl_buffer((32,), "float32", data=x_data)
        x[thread] = T.float32(0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cubins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")  # a setting of the caller's process is not the compiler's
        patch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
        said: list[str] = []
        report = build_cubins(cuda_artifact(), path, progress=said.append)
    assert said == ["building solver for NVIDIA GPUs (sm_80, sm_90)"]
    assert report == path / "solver_report.json"
    return path


@needs_numba_cuda
def test_there_is_code_for_each_architecture(folder: Path) -> None:
    from elftools.elf.elffile import ELFFile

    report = json.loads((folder / "solver_report.json").read_text())
    assert list(report["architectures"]) == ["sm_80", "sm_90"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "solver.sm_80.cubin", "solver.sm_90.cubin", "solver_report.json",
    ]  # fmt: skip
    for name, found in report["architectures"].items():
        image = (folder / found["file"]).read_bytes()
        assert (len(image), sha256(image).hexdigest()) == (found["bytes"], found["sha256"])
        elf = ELFFile(BytesIO(image))
        assert elf["e_machine"] in ("EM_CUDA", 190)
        flags = elf["e_flags"]
        assert int(name.removeprefix("sm_")) in (flags & 0xFF, (flags >> 8) & 0xFF), hex(flags)
        symbols = {s.name for s in elf.get_section_by_name(".symtab").iter_symbols()}  # type: ignore[union-attr]
        assert {"solve_one", "solve_many"} <= symbols


@needs_numba_cuda
def test_the_report_counts_registers(folder: Path) -> None:
    report = json.loads((folder / "solver_report.json").read_text())
    assert report["tools"]["numba-cuda"] and report["ptx_version"]
    for found in report["architectures"].values():
        assert set(found["kernels"]) == {"solve_one", "solve_many"}
        for kernel in found["kernels"].values():
            assert 8 <= kernel["registers"] <= 255
            assert kernel["spill_stores"] == kernel["spill_loads"] == 0


def test_an_artifact_without_kernels_is_refused(tmp_path: Path) -> None:
    artifact = replace(cuda_artifact(), backend="c", sources={"solver.c": ""})
    with pytest.raises(ToolError, match=r"the back end 'c' made no solver.py.*backend='cuda'"):
        build_cubins(artifact, tmp_path)


def test_for_the_simulator_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    report = json.loads(build_cubins(cuda_artifact(), tmp_path).read_text())
    assert report["simulator"] and report["architectures"] == {}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('nvJitLink: ptxas x, line 7; fatal: Unsupported .version 9.5')", "of different versions"),
        ("import no_such_module", r"a part of the compiler is not installed.*unfoldc\[cuda\]"),
        ("raise ValueError('a bad kernel')", "the compiler stopped: ValueError: a bad kernel"),
        ("raise SystemExit(3)", "exit status 3, no message"),
        ("import time; time.sleep(60)", "had not finished after 1 s"),
    ],
)
def test_a_compiler_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    (script := tmp_path / "compiler.py").write_text(program)
    monkeypatch.setattr(build, "_SCRIPT", script)
    with pytest.raises(ToolError, match=message):
        build_cubins(cuda_artifact(), tmp_path / "out", timeout=1.0 if "sleep" in program else 60.0)
    assert list((tmp_path / "out").iterdir()) == []


@needs_numba_cuda
@pytest.mark.slow
def test_what_numba_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    artifact = cuda_artifact()
    wrong = artifact.sources["solver.py"].replace("float32(0)", "undefined_name")
    with pytest.raises(ToolError, match="the compiler stopped: .*TypingError.*undefined_name"):
        build_cubins(replace(artifact, sources={**artifact.sources, "solver.py": wrong}), tmp_path)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import no_such_module", r"a part of the compiler is not installed.*NVRTC.*unfoldc\[cuda,tvm\]"),
        ("raise SystemExit('NVRTC: kernels.cu(3): error')", "the compiler stopped: NVRTC: kernels.cu.3.: error"),
        ("raise SystemExit('nvJitLink: Unsupported .version 9.5')", "NVRTC and nvJitLink are of different versions"),
    ],
)
def test_tvm_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    (script := tmp_path / "compiler.py").write_text(program)
    monkeypatch.setattr(build, "_TVM_SCRIPT", script)
    made = cuda_artifact()
    sources = {"solver.tir": "", "solver.cuh": "", "solver_launch.json": made.sources["solver_launch.json"]}
    with pytest.raises(ToolError, match=message):
        build_cubins(replace(made, backend="tvm", sources=sources), tmp_path / "out")
    with pytest.raises(ToolError, match=r"the back end 'tvm' made no solver.tir"):
        build_cubins(replace(made, backend="tvm"), tmp_path / "out")


@needs_numba_cuda
@pytest.mark.slow
@pytest.mark.parametrize(
    ("tir", "cuh", "message"),
    [
        ("class Module: nonsense", "", "the compiler stopped: TVM: ."),
        (_KERNEL.replace("float32(0)", "float32(nowhere)"), "", "the compiler stopped: TVM: .*nowhere"),
        (_KERNEL, "nonsense", "the compiler stopped: NVRTC: .*nonsense"),
        (_KERNEL.replace("solve_one", "other"), "", "the compiler made no entry for the kernel solve_one"),
    ],
)
def test_what_tvm_or_nvrtc_refuses_is_one_sentence(tmp_path: Path, tir: str, cuh: str, message: str) -> None:
    made = cuda_artifact()
    sources = {"solver.tir": tir, "solver.cuh": cuh, "solver_launch.json": made.sources["solver_launch.json"]}
    with pytest.raises(ToolError, match=message) as caught:
        build_cubins(replace(made, backend="tvm", sources=sources), tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


def test_a_toolkit_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(nvcc.parent))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    found = build._environment()
    assert found["CUDA_HOME"] == str(tmp_path / "cuda")
    assert not [name for name in found if name.startswith("NUMBA_")]
    monkeypatch.setenv("CUDA_PATH", "/elsewhere")
    assert "CUDA_HOME" not in build._environment()
