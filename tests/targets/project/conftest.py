"""Projects written from artifacts, without building firmware."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from generated_c.programs import Generated, solver_program

from unfoldc.targets import find_target
from unfoldc.targets.project import Figures, SelfTest, project_files

FIGURES = Figures(3792, 184, 104, 10, (264, 413), 13, versions={"ziglang": "0.17.1"})


def self_test_of(solver: Generated, tolerance: float = 1e-4) -> SelfTest:
    """The solver's own inputs and its answer in float64."""
    ports = solver.artifact.outputs
    inputs = tuple(v.reshape(p.shape) for v, p in zip(solver.inputs, solver.artifact.inputs, strict=True))
    expected = tuple(np.asarray(w).reshape(p.shape).astype(p.dtype) for w, p in zip(solver.wanted, ports, strict=True))
    allowed = tuple(tolerance * float(np.abs(e).max(initial=0.0)) for e in expected)
    return SelfTest(inputs, expected, allowed, tolerance)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """The project of a solver of tests/kernels in a new folder."""

    def write(name: str, target: str) -> Path:
        solver = solver_program(name, target)
        files = project_files(solver.artifact, find_target(target), self_test_of(solver), FIGURES, "0.1.0")
        folder = tmp_path / f"a project for {target}" / name
        for file, text in {**solver.artifact.sources, **files}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        return folder

    return write
