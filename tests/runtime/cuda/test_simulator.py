"""The kernels in numba's simulator, in a process of its own: numba reads the setting when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_artifact import cuda_artifact

from unfoldc.errors import ToolError
from unfoldc.runtime.cuda.simulator import SimulatorEngine

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from pathlib import Path
import numpy as np
from cuda_artifact import K, N, cuda_artifact, problems, solution
from unfoldc import load
from unfoldc.runtime.artifact_folder import Build, write_build
from unfoldc.runtime.cuda.simulator import SimulatorEngine
from unfoldc.runtime.products import make_product

artifact, folder = cuda_artifact(), Path(sys.argv[2])
product = make_product(artifact, "cuda", "gpu", folder)
write_build(Build(artifact, folder, "cuda", "gpu", product))
solver = load(folder)
for batch in (1, 6):
    b, matrix = problems(batch)
    np.testing.assert_allclose(solver(b, M=matrix), solution(artifact, b, matrix), atol=1e-5)
result = solver.run({"b": b, "M": matrix}, iterations=2)
np.testing.assert_allclose(result.outputs["x"], solution(artifact, b, matrix, 2), atol=1e-5)
call = solver.bind([b[:1], matrix])
call.inputs["b"][:] *= 2
np.testing.assert_allclose(call(), solution(artifact, b[:1], matrix), atol=1e-5)
b[0, 0] = np.nan
assert np.isnan(solver(b, matrix)[0]).all() and np.isfinite(solver(b, matrix)[1:]).all()
profile = solver.profile({"b": b[1:3], "M": matrix}, repeats=5)
rows = [profile.begin, *profile.iterations, profile.end]
assert profile.simulated and profile.repeats == 0 and profile.gpu is None
assert profile.seconds_p50 is profile.seconds_p99 is profile.dispatch_seconds is profile.stamp_seconds is None
assert not any(row.seconds_p50 or row.seconds_p99 for row in rows) and profile.iterations[-1].error == 0
text = str(profile)
assert "batch 2, SIMULATED by numba in Python: nothing is timed" in text.splitlines()[0]
assert not any(word in text for word in (" us", " ms", " ns", "occupancy", "registers", "p50")), text
ticks = np.zeros(K + 2, np.uint64)
SimulatorEngine(artifact).profile([b[1:2], matrix], [np.zeros((1, N), np.float32)], 1, 3, ticks)
assert (ticks[1:4] > 0).all() and not ticks[4:6].any(), ticks
together = SimulatorEngine(cuda_artifact(cooperative=True, workspace_bytes=10))
x = np.zeros((3, N), np.float32)
together.solve(problems(3), [x], 3, K)
np.testing.assert_allclose(x, solution(artifact, *problems(3)), atol=1e-5)
print("solved")
"""


def test_a_build_runs_in_the_simulator(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[2]), str(tmp_path)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "solved\n"), done.stderr


def test_the_simulator_must_be_asked_for_before_numba_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("numba").config
    monkeypatch.setattr(config, "ENABLE_CUDASIM", 0)
    with pytest.raises(ToolError, match="imported before NUMBA_ENABLE_CUDASIM=1 was set"):
        SimulatorEngine(cuda_artifact())
    assert np.isfinite(cuda_artifact().weights["w0"]).all()
