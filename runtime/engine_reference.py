"""Runs a model operation by operation in NumPy: slow, without a compiler, the standard for other back ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Artifact


class ReferenceEngine:
    """Evaluates the imported program, one problem after the other. Without stamps: a profile shows the total only."""

    def __init__(self, artifact: Artifact, model: Path, options: Mapping[str, Any], dtype: str | None = None) -> None:
        """`dtype`: of every floating-point value while computing; None: the types of the program."""
        from unfoldc.kernels.pipeline import load_program
        from unfoldc.kernels.printers.reference.evaluate import evaluate

        _, self._program = load_program(model, options.get("batch"), options.get("dimensions"))
        self._evaluate: Callable[..., list[np.ndarray]] = evaluate
        self._dtype = dtype
        self._inputs, self._outputs = artifact.inputs, artifact.outputs

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        for item in range(batch):
            problem = {
                name: (array[item] if port.batched else array).reshape(self._program.types[name].shape)
                for name, port, array in zip(self._program.inputs, self._inputs, inputs, strict=True)
            }
            answers = self._evaluate(self._program, problem, dtype=self._dtype, iterations=iterations)
            for port, output, answer in zip(self._outputs, outputs, answers, strict=True):
                (output[item : item + 1] if port.batched else output)[...] = answer.reshape(port.shape)

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Not possible: raises InputError."""
        do = "Compile with one of these for times per iteration."
        raise InputError("backend reference", "no stamps inside the iterations", "backend c, numba or tvm", do)
