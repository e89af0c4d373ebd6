"""A small solver as the CUDA back end would print it: x_{k+1} = b + (W + M) x_k, with b (8,), M (8, 8), K = 5.

A group of 8 threads solves a problem, a block of 32 threads four; there is a form for batches from 64 on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.target_spec import TargetSpec

N, K = 8, 5
_KERNEL = """
def {name}(x0, x1, y0, weights_float32, workspace, batch, iterations, ticks):
    lane = cuda.threadIdx.x % 8
    group = cuda.threadIdx.x // 8
    stamp(ticks, 0)
    v = cuda.shared.array(0, float32)
    p = cuda.blockIdx.x * 4
    while p < batch:
        q = min(p + group, batch - 1)
        b = x0[q * 8 + lane]
        a = float32(0)
        stamp(ticks, 1)
        for k in range(iterations):
            v[cuda.threadIdx.x] = a
            cuda.syncthreads()
            s = b
            for j in range(8):
                s += (weights_float32[lane * 8 + j] + x1[lane * 8 + j]) * v[group * 8 + j]
            cuda.syncthreads()
            a = s
            stamp(ticks, 2 + k)
        if p + group < batch:
            y0[q * 8 + lane] = a
        stamp(ticks, {last})
        p += cuda.gridDim.x * 4
"""
_MODULE = """
from numba import config, cuda, float32, int64

OPTIONS = {{}}

if config.ENABLE_CUDASIM:
    import time

    def stamp(ticks, place):
        if len(ticks) and cuda.threadIdx.x == 0:
            ticks[cuda.blockIdx.x * {count} + place] = time.perf_counter_ns()

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    @intrinsic
    def stamp(typing, ticks, place):
        def generate(context, builder, signature, arguments):
            return context.get_dummy_value()

        return types.void(ticks, place), generate

"""


def form(name: str, from_batch: int, **changes: Any) -> dict[str, Any]:
    """A form as the printer describes it."""
    found = {
        "name": name, "from_batch": from_batch, "kernel": f"solve_{name}",
        "threads": 32, "problems": 4, "group": 8, "shared_bytes": 128, "workspace_bytes": 0, "cooperative": False,
    }  # fmt: skip
    return {**found, **changes}


def cuda_artifact(seed: int = 0, **changes: Any) -> Artifact:
    """The artifact; `changes` apply to every form."""
    weights = (np.random.default_rng(seed).standard_normal((N, N)) * 0.1).astype(np.float32)
    forms = [form("one", 1, **changes), form("many", 64, **changes)]
    source = _MODULE.format(count=K + 3) + "".join(_KERNEL.format(name=f["kernel"], last=K + 2) for f in forms)
    launch = {
        "forms": forms,
        "parameters": [
            ["x0", "float32*", "input", 0], ["x1", "float32*", "input", 1], ["y0", "float32*", "output", 0],
            ["weights_float32", "float32*", "weights", 0], ["workspace", "uint8*", "workspace"],
            ["batch", "int32", "batch"], ["iterations", "int32", "iterations"], ["ticks", "int64*", "ticks"],
        ],
        "weights": [["float32", N * N, [["w0", 0]]]],
        "stamps_per_block": K + 3,
    }  # fmt: skip
    return Artifact(
        symbol="solver",
        backend="cuda",
        target=TargetSpec("cuda", 64, 0, 32),
        iterations=K,
        inputs=(Port("b", "float32", (N,), True), Port("M", "float32", (N, N), False)),
        outputs=(Port("x", "float32", (N,), True),),
        sources={"solver.py": source, "solver_launch.json": json.dumps(launch)},
        weights={"w0": weights},
        memory=MemoryPlan(0, 0, weights.nbytes),
        cost=Cost(0, (2 * N * N,) * K, 0, (4 * N * N,) * K),
    )


def problems(batch: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs for so many problems."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((N, N)) * 0.1
    return rng.standard_normal((batch, N)).astype(np.float32), matrix.astype(np.float32)


def solution(artifact: Artifact, b: np.ndarray, matrix: np.ndarray, iterations: int = K) -> np.ndarray:
    """The answers in float64."""
    step = (artifact.weights["w0"].astype(np.float64) + matrix).T
    x = np.zeros(b.shape)
    for _ in range(iterations):
        x = b + x @ step
    return x


def crashing_artifact() -> Artifact:
    """The same, but its kernels write where there is no memory."""
    artifact = cuda_artifact()
    good = artifact.sources["solver.py"]
    bad = good.replace("y0[q * 8 + lane] = a", "y0[q * 8 + lane + (1 << 40)] = a")
    assert bad != good
    return replace(artifact, sources={**artifact.sources, "solver.py": bad})
