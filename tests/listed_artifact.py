"""Small solvers as lists of launches, for batches from 2 on, which the compiler would not make of weights so small."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest.mock import patch

from gpu_kernels.shared_weights import SOLVERS, Solver

from unfoldc.kernels import gpu_build
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.gpu.product_form import product_form
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.targets.cuda.target import CUDA


def listed_artifact(folder: Path, number: int = 1) -> tuple[Solver, Artifact]:
    """One of the solvers whose problems share their weights, and what the back end makes of it; it needs cuBLAS."""
    solver = SOLVERS[number]
    with patch.object(gpu_build, "product_form", partial(product_form, from_batch=2, least=4)):
        return solver, compile_onnx(solver.save(folder), CUDA.spec, "cuda")
