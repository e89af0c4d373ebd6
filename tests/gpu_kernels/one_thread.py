"""Runs the elementwise kernels of a printed module as plain Python, by one thread, on the memory of a launch."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_cuda import Launch

from unfoldc.kernels.artifact import Artifact

_CUDA = SimpleNamespace(
    blockIdx=SimpleNamespace(x=0), threadIdx=SimpleNamespace(x=0), gridDim=SimpleNamespace(x=1),
    blockDim=SimpleNamespace(x=1),
)  # fmt: skip


def module_of(text: str) -> dict[str, Any]:
    """A printed module, for a GPU of one thread."""
    source = text.replace("from numba import config, cuda, types", "")
    module: dict[str, Any] = {"config": SimpleNamespace(ENABLE_CUDASIM=True), "cuda": _CUDA, "types": None}
    exec(compile(source, "solver.py", "exec"), module)
    return module


def kernels(artifact: Artifact, sizes: Callable[[int], int]) -> Mapping[str, Callable[[Launch], None]]:
    """For `FakeDriver`: what each kernel of a list does; `sizes` gives the bytes of memory at an address."""
    module = module_of(artifact.sources[f"{artifact.symbol}.py"])
    facts = json.loads(artifact.sources[f"{artifact.symbol}_launch.json"])

    def run(launch: Launch) -> None:
        arguments: list[Any] = []
        for (_, kind, *_), word in zip(facts["parameters"], launch.words, strict=True):
            if kind.endswith("*"):
                arguments.append(_memory(word, sizes(word), kind[:-1]) if word else None)
            else:
                arguments.append(np.int32(word))
        with np.errstate(all="ignore"):
            module[launch.kernel](*arguments)

    return {name: run for name in module if name.startswith("solve_")}


def _memory(address: int, size: int, dtype: str) -> np.ndarray:
    whole = size // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize
    return np.frombuffer(memoryview((ctypes.c_ubyte * whole).from_address(address)), dtype)
