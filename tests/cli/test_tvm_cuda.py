"""Solvers that TVM compiles for GPUs, from model to answer: their kernels run on the processor, in the usual engine."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeDriver, Launch
from gpu_kernels.on_processor import Code

import unfoldc
from unfoldc import cli
from unfoldc.errors import InputError, ToolError
from unfoldc.runtime.cuda import driver
from unfoldc.runtime.cuda.engine import CudaEngine

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tvm", "cuda")) and sys.platform != "linux",
    reason="NVIDIA has no packages for it",
)


class NoDriver:
    def cuInit(self, flags: int) -> Any:
        raise RuntimeError("no library")


def on_processor(folder: Path, scratch: Path) -> FakeDriver:
    """A driver that runs the CUDA C of a build."""
    facts = json.loads((folder / "solver_launch.json").read_text())
    names = [form["kernel"] for form in facts["forms"]]
    text = (folder / "solver.cu").read_text()
    code = Code(text[text.index('extern "C"') :], {n: [row[1] for row in facts["parameters"]] for n in names}, scratch)

    def run(launch: Launch) -> None:
        shape = launch.blocks, launch.threads, launch.shared, launch.cooperative
        code.launch(launch.kernel, launch.words, *shape, 7)

    return FakeDriver(dict.fromkeys(names, run), len(facts["parameters"]))


def test_a_solver_is_built_without_a_gpu_and_runs_in_the_same_engine(
    model: Path, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver, "_bindings", NoDriver)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")  # which is Numba's business alone
    solver = unfoldc.compile(model, "cuda", "tvm")
    assert (solver.target, solver.backend, solver.iterations) == ("cuda", "tvm", 3)
    folder = solver.save(tmp_path / "saved")
    texts = {"solver.tir", "solver.cuh", "solver.cu", "solver_launch.json", "solver_report.json"}
    assert texts | {"solver.sm_80.cubin", "solver.sm_90.cubin"} <= {p.name for p in folder.iterdir()}
    _check_code(folder)
    with pytest.raises(ToolError, match="no NVIDIA driver is installed"):
        unfoldc.load(folder)(tiny.problems())
    np.save(tmp_path / "y.npy", tiny.problems())
    assert cli.main(["run", str(model), str(tmp_path / "y.npy"), "--target", "cuda", "--backend", "tvm"]) == 1
    assert capsys.readouterr().err.startswith("unfoldc: ")
    api = on_processor(folder, tmp_path)
    _check_answers(CudaEngine(solver.artifact, folder / "solver_report.json", driver.Driver(api)), tiny)


def _check_code(folder: Path) -> None:
    """Machine code with all kernels; the assembler says that registers hold what lanes keep; nothing is float64."""
    from elftools.elf.elffile import ELFFile

    report = json.loads((folder / "solver_report.json").read_text())
    forms = json.loads((folder / "solver_launch.json").read_text())["forms"]
    names = {form["kernel"] for form in forms}
    assert list(report["architectures"]) == ["sm_80", "sm_90"] and report["tools"]["apache-tvm"]
    for found in report["architectures"].values():
        symbols = ELFFile(BytesIO((folder / found["file"]).read_bytes())).get_section_by_name(".symtab")
        assert names <= {s.name for s in symbols.iter_symbols()}  # type: ignore[union-attr]
        assert set(found["kernels"]) == names
        for kernel in found["kernels"].values():
            assert 8 <= kernel["registers"] <= 255 and kernel["spill_stores"] == kernel["stack_bytes"] == 0
    text = (folder / "solver.cu").read_text()
    text = text[text.index('extern "C"') :]
    assert "double" not in text and not re.search(r"__(exp|log|fdividef|frcp|fsqrt)", text)


def _check_answers(engine: CudaEngine, tiny: Any) -> None:
    for batch in (1, 7, 600):
        y = np.random.default_rng(batch).normal(size=(batch, 5)).astype(np.float32)
        x = np.empty((batch, 9), np.float32)
        engine.solve([y], [x], batch, 3)
        np.testing.assert_allclose(x, tiny.solve(y), atol=1e-5)
    ticks = np.zeros(5, np.int64)
    engine.profile([y], [x], 600, 3, ticks)
    assert (ticks[:4] > 0).all()
    engine.close()


def test_tvm_on_a_gpu_is_asked_for_and_not_tuned(model: Path) -> None:
    with pytest.raises(InputError, match="tune: back end 'tvm on cuda', which has no schedule"):
        unfoldc.compile(model, "cuda", "tvm", tune=1.0)
    with pytest.raises(InputError, match="threads: 2 for backend tvm"):
        unfoldc.compile(model, "cuda", "tvm", threads=2)
