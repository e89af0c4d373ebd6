"""Bound calls and threads of compiled solvers, on the back ends that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc import pipeline


@pytest.mark.parametrize(
    ("target", "backend"),
    [("host", "c"), ("host", "numba"), ("host", "reference"), ("host", "onnxruntime"), ("cortex-m4", "c")],
)
def test_a_bound_call_on_every_engine(model: Path, tiny: Any, target: str, backend: str) -> None:
    solver = pipeline.compile(model, target, backend)
    y, x = tiny.problems(2), np.zeros((2, 9), np.float32)
    call = solver.bind(y, x, iterations=2)
    for _ in range(2):
        y += 1
        assert call() is x
        np.testing.assert_allclose(x, tiny.solve(y, 2), atol=1e-5)


def test_problems_that_are_solved_side_by_side_stay_together(model: Path, tiny: Any) -> None:
    one, several = (pipeline.compile(model, backend="c", threads=n) for n in (1, 3))
    engine: Any = several._engine
    group = engine.engine.group
    assert several.threads == 3 and group > 1
    for batch in (group - 1, group + 3, 3 * group + 5, 8 * group):
        y = tiny.problems(batch)
        right, x = one(y), np.zeros((batch, 9), np.float32)
        engine._split([y], [x], 3, batch, 3)
        np.testing.assert_array_equal(x, right)
        for _ in range(8):
            np.testing.assert_array_equal(several(y), right)


def test_a_saved_solver_gets_its_threads_when_it_is_loaded(model: Path, tiny: Any, tmp_path: Path) -> None:
    folder = pipeline.compile(model, backend="c", threads=2).save(tmp_path / "saved")
    assert (pipeline.load(folder).threads, pipeline.load(folder, threads=4).threads) == (1, 4)
