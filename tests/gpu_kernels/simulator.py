"""Runs printed kernels in numba's CUDA simulator, in a process of its own: it is chosen when numba is imported."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.gpu import GpuChoices
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources


class Simulator:
    """A process that launches kernels; a launch is blocks, a form, and what the arguments are made of."""

    def __init__(self) -> None:
        environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
        command = [sys.executable, str(Path(__file__).with_name("simulate.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def launch(
        self,
        program: LoopProgram,
        ports: tuple[Sequence[Port], Sequence[Port]],
        choices: GpuChoices,
        arrays: Mapping[str, np.ndarray],
        batch: int,
        iterations: int | None = None,
        blocks: int = 2,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The outputs of a batch by name, and the stamps of each block. `arrays` are the inputs of the whole batch."""
        sources = cuda_sources("solver", program, *ports, [CudaForm("one", 1, choices)])
        facts = json.loads(sources["solver_launch.json"])
        form = facts["forms"][0]
        blocks = 1 if form["cooperative"] else blocks
        count = program.iterations if iterations is None else iterations
        scalars = {"batch": batch, "iterations": count}
        values: list[Any] = []
        named = dict(zip((*program.inputs, *program.outputs), (*ports[0], *ports[1]), strict=True))
        for _, _, kind, *number in facts["parameters"]:
            name = _buffer(program, kind, number)
            if kind == "input":
                values.append(_plain(arrays[name]))
            elif kind == "output":
                problems = batch if named[name].batched else 1
                values.append(_plain(np.zeros((problems, *program.buffers[name].shape), program.buffers[name].dtype)))
            elif kind == "weights":
                dtype, size, entries = facts["weights"][number[0]]
                values.append(np.zeros(size, dtype))
                for constant, first in entries:
                    own = _plain(program.constants[constant])
                    values[-1][first : first + own.size] = own
            elif kind == "workspace":
                values.append(np.zeros(max(form["workspace_bytes"] * blocks, 16), np.uint8))
            elif kind == "ticks":
                values.append(np.zeros(blocks * facts["stamps_per_block"], np.int64))
            else:
                values.append(scalars[kind])
        launch = blocks, form["threads"], 0, max(form["shared_bytes"], 16)
        after = self._ask((sources["solver.py"], form["kernel"], launch, values))
        outputs = {}
        for (_, _, kind, *number), value in zip(facts["parameters"], after, strict=True):
            if kind == "output":
                name = _buffer(program, kind, number)
                buffer = program.buffers[name]
                outputs[name] = value.view(buffer.dtype).reshape(-1, *buffer.shape)
        return outputs, after[-1].reshape(blocks, -1)

    def _ask(self, request: object) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, str):
            raise AssertionError(answer)
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def _buffer(program: LoopProgram, kind: str, number: list[int]) -> str:
    """The buffer behind an array of the caller's, else nothing."""
    return {"input": program.inputs, "output": program.outputs}[kind][number[0]] if kind in ("input", "output") else ""


def _plain(array: np.ndarray) -> np.ndarray:
    """The elements in a row; truth values are bytes."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8) if flat.dtype == bool else flat
