"""Runs a model that was split into `begin`, `iterate` and `end` in ONNX Runtime, on any of its execution providers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.onnxruntime_sessions import checked_providers, first_line
from unfoldc.runtime.split_runner import SplitRunner


class OnnxruntimeEngine:
    """The whole batch runs at once, as the graph was written. Ticks are nanoseconds.

    `options`: `providers`, names of execution providers in the order of preference (the processor, where absent), and
    `threads` per operation (1). Raises InputError for a provider that is not there, ToolError for a model that ONNX
    Runtime does not take.
    """

    def __init__(self, artifact: Artifact, options: Mapping[str, Any]) -> None:
        wiring = json.loads(artifact.sources[f"{artifact.symbol}_split.json"])
        self.providers = checked_providers(options.get("providers"))
        parts = [facts["part"] for facts in (wiring["begin"], *wiring["iterate"], wiring["end"]) if facts]
        models = {part: artifact.models[f"{artifact.symbol}_{part}.onnx"] for part in parts}
        try:
            self._runner = SplitRunner(
                wiring, models, artifact.weights, self.providers, int(options.get("threads") or 1)
            )
        except ToolError:
            raise
        except Exception as error:  # ONNX Runtime raises many kinds
            raise ToolError(
                "backend onnxruntime",
                f"ONNX Runtime does not take the model ({first_line(error)})",
                "models that it can run on these providers",
                "Choose another provider, or compile the model again with this version.",
            ) from None

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        if batch:
            self._runner.run(inputs, outputs, batch, iterations)

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add the nanoseconds of begin, each iteration and end to the K + 2 items of `ticks`."""
        if batch:
            self._runner.run(inputs, outputs, batch, iterations, ticks)
