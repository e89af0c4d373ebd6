"""Solvers for GPUs from model to answer: built without a GPU, run in numba's simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unfoldc
from unfoldc import cli
from unfoldc.errors import InputError, ToolError
from unfoldc.runtime.cuda import driver


class NoDriver:
    def cuInit(self, flags: int) -> Any:
        raise RuntimeError("no library")


@pytest.fixture
def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_bindings", NoDriver)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)


def test_a_solver_is_built_and_saved_without_a_gpu(
    model: Path, tiny: Any, tmp_path: Path, without_driver: None, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = unfoldc.compile(model, backend="cuda")
    assert (solver.target, solver.backend, solver.iterations) == ("cuda", "cuda", 3)
    folder = solver.save(tmp_path / "saved")
    names = {p.name for p in folder.iterdir()}
    assert {"solver.py", "solver_launch.json", "solver.sm_80.cubin", "solver.sm_90.cubin"} <= names
    again = unfoldc.load(folder)
    for each in (solver, again):
        with pytest.raises(ToolError, match="back end cuda: no NVIDIA driver is installed .*use another back end"):
            each(tiny.problems())
    np.save(tmp_path / "y.npy", tiny.problems())
    for command in ("run", "profile"):
        assert cli.main([command, str(model), str(tmp_path / "y.npy"), "--target", "cuda"]) == 1
        assert capsys.readouterr().err.startswith("unfoldc: back end cuda: no NVIDIA driver is installed")
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        solver(tiny.problems()[0])
    (folder / "solver.sm_90.cubin").write_bytes(b"")
    with pytest.raises(Exception, match="not what was saved"):
        unfoldc.load(folder)


def test_the_target_takes_its_own_back_end_alone(model: Path) -> None:
    with pytest.raises(InputError, match="backend c on target cuda: cannot run there; allowed: auto, tvm, cuda"):
        unfoldc.compile(model, "cuda", "c")
    with pytest.raises(InputError, match="sparse with back end 'cuda'"):
        unfoldc.compile(model, "cuda", sparse=True)
    with pytest.raises(InputError, match="allow_tf32 with back end 'c'"):
        unfoldc.compile(model, backend="c", allow_tf32=True)
    with pytest.raises(InputError, match="threads: 2 for backend cuda"):
        unfoldc.compile(model, "cuda", threads=2)
    with pytest.raises(InputError, match="tune: back end 'cuda'"):
        unfoldc.compile(model, "cuda", tune=1.0)


def test_the_command_line_runs_in_the_simulator(model: Path, tiny: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", tiny.problems(2))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "unfoldc", "run", str(model), str(tmp_path / "y.npy"), "--target", "cuda"]
    output = ["--output", str(tmp_path / "x.npy"), "--json"]
    done = subprocess.run([*command, *output], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iterations"] == 3
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), tiny.solve(tiny.problems(2)), atol=1e-6)
    command[3] = "profile"
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["simulated"] and found["gpu"] is found["seconds_p50"] is None and len(found["iterations"]) == 3
