"""Lists of launches in numba's simulator, in a process of its own, and as machine code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gpu_kernels.ptx import needs_nvvm, ptx
from gpu_kernels.shared_weights import SOLVERS

from unfoldc.kernels import gpu_build
from unfoldc.kernels.gpu.product_form import product_form
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.runtime.cuda.launch_list import MatrixProduct, Rows
from unfoldc.runtime.cuda.simulated_list import multiply
from unfoldc.targets.cuda.build import build_cubins
from unfoldc.targets.cuda.target import CUDA

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from gpu_kernels.shared_weights import K, SOLVERS, inputs
from unfoldc import load
from unfoldc.kernels import gpu_build
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.runtime.artifact_folder import Build, write_build
from unfoldc.runtime.products import make_product
from unfoldc.targets.cuda.target import CUDA

made = gpu_build.product_form
gpu_build.product_form = lambda *a, **k: made(*a, **k, from_batch=2, least=4)
for solver in (SOLVERS[1], SOLVERS[3]):
    folder = Path(sys.argv[2]) / solver.name
    folder.mkdir()
    artifact = compile_onnx(solver.save(folder), CUDA.spec, "cuda")
    product = make_product(artifact, "cuda", "gpu", folder)
    write_build(Build(artifact, folder, "cuda", "gpu", product))
    opened = load(folder)
    y = inputs(solver, 3)
    np.testing.assert_allclose(opened(y), solver.answer(y), atol=1e-5)
    found = opened.run({"y": y}, iterations=2).outputs["x"]
    np.testing.assert_allclose(found, solver.answer(y, 2), atol=1e-5)
    y[0, 0], y[1, 1] = np.nan, np.inf
    x, right = opened(y), solver.answer(y)
    assert (np.isnan(x) == np.isnan(right)).all() and np.isnan(x[0]).any()
    profile = opened.profile({"y": inputs(solver, 2)}, repeats=1)
    assert len(profile.iterations) == K and profile.iterations[-1].error == 0, str(profile)
print("solved")
"""


def test_solvers_run_in_the_simulator(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[2]), str(tmp_path)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "solved\n"), done.stderr


def test_a_product_stays_within_its_buffers() -> None:
    product = MatrixProduct(Rows("w", 0, 3), 0, False, Rows("x", 0, 3), Rows("z", 0, 2), 1, 2, 3, 1, False, "float32")
    memory = {"w": np.ones(6, np.float32), "x": np.ones(9, np.float32), "z": np.zeros(6, np.float32)}
    multiply(product, 0, 3, lambda rows: memory[rows.buffer][rows.first :])
    assert (memory["z"] == 3).all()
    with pytest.raises(ValueError, match=r"a matrix of \(4, 3\) with 3 elements from row to row in 9 elements"):
        multiply(product, 0, 4, lambda rows: memory[rows.buffer][rows.first :])


@needs_nvvm
@pytest.mark.slow
def test_kernels_are_short_machine_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a thread does is read, compute and write: no division, nothing in local memory."""
    monkeypatch.setattr(gpu_build, "product_form", partial(product_form, from_batch=1, least=4))
    artifact = compile_onnx(SOLVERS[0].save(tmp_path), CUDA.spec, "cuda")
    (text,) = ptx(artifact.sources, ["solve_products_iterate_1"])
    assert "st.global.f32" in text and "min.NaN.f32" in text
    assert not any(word in text for word in ("div.", "rem.", "call", ".local"))
    report = json.loads(build_cubins(artifact, tmp_path).read_text())
    for name in ("sm_80", "sm_90"):
        kernels = report["architectures"][name]["kernels"]
        listed = {n: k for n, k in kernels.items() if n.startswith("solve_products")}
        assert len(listed) == 3  # begin, iterate, end
        assert all(k["registers"] <= 40 and not k["stack_bytes"] and not k["spill_stores"] for k in listed.values())
