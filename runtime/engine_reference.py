"""Runs a model operation by operation in NumPy: slow, without a compiler, the standard for other back ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.engine import WithoutStamps
from unfoldc.runtime.one_by_one import solve_one_by_one


class ReferenceEngine(WithoutStamps):
    """Evaluates the imported program, one problem after the other. Without stamps: a profile shows the total only."""

    why = (
        "backend reference", "no stamps inside the iterations", "backend c, numba or tvm",
        "Compile with one of these for times per iteration.",
    )  # fmt: skip

    def __init__(self, artifact: Artifact, model: Path, options: Mapping[str, Any], dtype: str | None = None) -> None:
        """`dtype`: of every floating-point value while computing; None: the types of the program."""
        from unfoldc.kernels.pipeline import load_program
        from unfoldc.kernels.printers.reference.evaluate import evaluate

        _, self._program = load_program(model, options.get("batch"), options.get("dimensions"))
        self._evaluate: Callable[..., list[np.ndarray]] = evaluate
        self._dtype = dtype
        self._artifact = artifact

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""

        def answers(problem: list[np.ndarray]) -> list[np.ndarray]:
            given = zip(self._program.inputs, problem, strict=True)
            values = {name: array.reshape(self._program.types[name].shape) for name, array in given}
            found = self._evaluate(self._program, values, dtype=self._dtype, iterations=iterations)
            return [answer.reshape(port.shape) for port, answer in zip(self._artifact.outputs, found, strict=True)]

        solve_one_by_one(self._artifact, answers, inputs, outputs, batch)
