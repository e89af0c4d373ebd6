"""A build of the small solver with code that is none, and a driver that runs it in NumPy."""

from __future__ import annotations

import ctypes
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cuda_artifact import K, N
from fake_cuda import FakeDriver, Launch

CODE = b"\x7fELF as far as a fake driver knows"


def floats(address: int, *shape: int) -> np.ndarray:
    """Memory at an address as an array."""
    return np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address)).reshape(shape)


def kernel(launch: Launch) -> None:
    """What the printed kernel does with its parameters."""
    b, matrix, x, weights, _, batch, iterations, ticks = launch.words
    step = floats(weights, N, N) + floats(matrix, N, N)
    first = floats(b, batch, N)
    answer = np.zeros((batch, N), np.float32)
    with np.errstate(invalid="ignore"):
        for _ in range(iterations):
            answer = first + answer @ step.T
    floats(x, batch, N)[...] = answer
    if ticks:
        stamps = np.ctypeslib.as_array((ctypes.c_int64 * (launch.blocks * (K + 3))).from_address(ticks))
        for block, row in enumerate(stamps.reshape(launch.blocks, K + 3)):
            row[: 2 + iterations] = 1000 * (1 + block) + 10 * np.arange(2 + iterations)
            row[K + 2] = row[1 + iterations] + 100


def fake(**changes: Any) -> FakeDriver:
    """A driver with the kernels of `cuda_artifact`."""
    return FakeDriver({"solve_one": kernel, "solve_many": kernel}, 8, **changes)


def write_report(folder: Path, architectures: tuple[int, ...] = (80, 90)) -> Path:
    """The report of a build with cubins that only a fake driver loads."""
    found = {}
    for architecture in architectures:
        name = f"sm_{architecture}"
        (folder / f"solver.{name}.cubin").write_bytes(CODE)
        kernels = {"solve_one": {"registers": 40, "spill_stores": 8, "spill_loads": 16, "stack_bytes": 24}}
        digest = sha256(CODE).hexdigest()
        found[name] = {"file": f"solver.{name}.cubin", "sha256": digest, "bytes": len(CODE), "kernels": kernels}
    report = folder / "solver_report.json"
    report.write_text(json.dumps({"format": 1, "simulator": False, "architectures": found}))
    return report
