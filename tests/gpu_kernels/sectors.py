"""Counts the sectors of global memory that the warps of a printed kernel touch, 32 bytes each.

What a GPU's memory is asked for is not bytes but sectors: the lanes of a warp that load or store at once take one
request for each sector that any of them touches. Each lane runs on its own, on arrays that note who asked for what;
what lies in memory is nonsense then, but where kernels look for it does not hang on that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.gpu import GpuChoices
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources

SECTOR = 32  # bytes
WARP = 32


@dataclass
class Traffic:
    """Of one array: sectors that the warps asked for, and those that hold all of its elements."""

    needed: int
    asked: int = 0


@dataclass
class _Noted:
    """An array of the caller's; `places` are the bytes that lanes touched, by instruction: line, and how often."""

    width: int
    places: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def _note(self, at: int) -> None:
        line = sys._getframe(2).f_lineno
        turn = self.counts.get(line, 0)
        self.counts[line] = turn + 1
        self.places.setdefault((line, turn), set()).add(int(at) * self.width // SECTOR)

    def __getitem__(self, at: int) -> Any:
        self._note(at)
        return np.float32(1)

    def __setitem__(self, at: int, value: Any) -> None:
        self._note(at)


def traffic(
    program: LoopProgram, ports: tuple[Sequence[Port], Sequence[Port]], choices: GpuChoices, rounds: int = 1
) -> dict[str, Traffic]:
    """What one block asks for while it solves so many rounds of full blocks, one iteration each, by buffer.

    Weights count as `weights_<type>`: in `needed` once for all problems.
    """
    sources = cuda_sources("solver", program, *ports, [CudaForm("one", 1, choices)])
    facts = json.loads(sources["solver_launch.json"])
    form, batch = facts["forms"][0], rounds * choices.problems
    arrays: dict[str, _Noted] = {}
    values: list[Any] = []
    for name, kind, role, *number in facts["parameters"]:
        if role in ("input", "output"):
            buffer = (program.inputs if role == "input" else program.outputs)[number[0]]
            arrays[buffer] = _Noted(np.dtype(kind[:-1]).itemsize)
            values.append(arrays[buffer])
        elif role == "weights":
            arrays[name] = _Noted(np.dtype(kind[:-1]).itemsize)
            values.append(arrays[name])
        else:
            empty = {"workspace": np.zeros(max(form["workspace_bytes"], 16), np.uint8), "ticks": np.zeros(0, np.int64)}
            values.append(empty.get(role, {"batch": batch, "iterations": 1}.get(name)))
    sizes = {n: b.size * batch for n, b in program.buffers.items()}
    sizes |= {f"weights_{dtype}": elements for dtype, elements, _ in facts["weights"]}
    found = {n: Traffic(-(-sizes[n] * a.width // SECTOR)) for n, a in arrays.items()}
    code = compile(sources["solver.py"].replace("from numba import config, cuda, types", ""), "solver.py", "exec")
    for warp in range(-(-form["threads"] // WARP)):
        for thread in range(warp * WARP, min((warp + 1) * WARP, form["threads"])):
            for noted in arrays.values():
                noted.counts.clear()
            _run(code, form, thread, values)
        for name, noted in arrays.items():
            found[name].asked += sum(map(len, noted.places.values()))
            noted.places.clear()
    return found


def _run(code: Any, form: dict[str, Any], thread: int, values: list[Any]) -> None:
    memory = np.zeros(max(form["shared_bytes"], 16), np.uint8)
    types = SimpleNamespace(**{name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8")})
    cuda = SimpleNamespace(
        blockIdx=SimpleNamespace(x=0), threadIdx=SimpleNamespace(x=thread), gridDim=SimpleNamespace(x=1),
        blockDim=SimpleNamespace(x=form["threads"]), syncthreads=lambda: None,
        local=SimpleNamespace(array=lambda size, dtype: np.zeros(size, dtype)),
        shared=SimpleNamespace(array=lambda _, dtype: memory[: memory.size // 16 * 16].view(dtype)),
    )  # fmt: skip
    module: dict[str, Any] = {"config": SimpleNamespace(ENABLE_CUDASIM=True), "cuda": cuda, "types": types}
    exec(code, module)
    module["EXCHANGE"][:] = [np.float32(0)] * len(module["EXCHANGE"])
    with np.errstate(all="ignore"):
        module[form["kernel"]](*values)
