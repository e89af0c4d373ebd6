"""Runs a solver's kernels in numba's simulator of CUDA: Python threads, very slow, for checking without a GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.launch_facts import Form, gathered, launch_facts
from unfoldc.runtime.cuda.simulated_list import run_list
from unfoldc.runtime.cuda.stamps import block_means

_BLOCKS = 2  # enough to see blocks that stride over the batch


class SimulatorEngine:
    """The printed module, run by `numba.cuda.simulator` on NumPy arrays. One call at a time.

    Raises ToolError where numba's CUDA is missing, or was imported before the simulator was asked for.
    """

    simulated = True

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.facts = artifact, launch_facts(artifact)
        self._cuda = _simulator()
        source = f"{artifact.symbol}.py"
        self._module: dict[str, Any] = {"__name__": "unfoldc_kernels"}
        exec(compile(artifact.sources[source], f"<{source}>", "exec"), self._module)
        self._weights = [gathered(artifact, *group) for group in self.facts.weights]
        self._lock = threading.Lock()

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        self._run(inputs, outputs, batch, iterations, stamped=False)

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add nanoseconds of each part: the simulator's, which a `Profile` does not show."""
        stamps = self._run(inputs, outputs, batch, iterations, stamped=True)
        units = self.facts.forms[self.facts.form(batch)].units(batch)
        ticks += block_means(stamps, self.artifact.iterations, units).astype(ticks.dtype)

    def _run(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int, stamped: bool
    ) -> np.ndarray:
        form = self.facts.forms[self.facts.form(batch)]
        # Blocks run one after the other there: those that wait for each other must be one.
        blocks = 1 if form.cooperative else max(1, min(_BLOCKS, form.units(batch)))
        stamps = np.zeros((blocks, self.facts.stamps), np.int64)
        if not batch:
            return stamps[:0]
        arrays: dict[str, list[Any]] = {
            "input": [_flat(a) for a in inputs],
            "output": [_flat(np.zeros(a.shape, a.dtype)) for a in outputs],
            "weights": self._weights,
            "workspace": [_workspace(form, blocks, batch, kind) for kind in [self._workspace_type()]],
            "ticks": [stamps.reshape(-1) if stamped else stamps[:0].reshape(-1)],
            "batch": [np.int32(batch)],
            "iterations": [np.int32(iterations)],
        }
        with self._lock:
            self._launch(form, blocks, arrays, stamped)
        for array, answer in zip(outputs, arrays["output"], strict=True):
            array[...] = answer[: array.size].view(array.dtype).reshape(array.shape)
        return stamps

    def _launch(self, form: Form, blocks: int, arrays: dict[str, list[Any]], stamped: bool) -> None:
        """One kernel, or all launches of a list."""
        parameters = self.facts.parameters
        if form.launches is None:
            kernel = self._module[form.kernel]
            arguments = [arrays[p.role][p.index] for p in parameters]
            self._cuda.jit(kernel)[blocks, form.threads, 0, form.shared_bytes](*arguments)
            return

        def launch(name: str, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
            self._cuda.jit(self._module[name])[blocks, threads](*arguments)

        found = {(role, i): value for role, values in arrays.items() for i, value in enumerate(values)}
        run_list(form.launches, parameters, found, launch, stamped)

    def _workspace_type(self) -> str:
        return next((p.type.rstrip("*") for p in self.facts.parameters if p.role == "workspace"), "uint8")


def _flat(array: np.ndarray) -> np.ndarray:
    """The elements in a row, as a kernel sees them: booleans are bytes."""
    flat = array.reshape(-1)
    return flat.view(np.uint8) if flat.dtype == np.bool_ else flat


def _workspace(form: Form, blocks: int, batch: int, kind: str) -> np.ndarray:
    size = form.workspace_bytes * (1 if form.cooperative else blocks)
    if form.launches is not None:
        size = form.workspace_bytes * form.launches.reserved(batch)
    return np.zeros(max(1, -(-size // np.dtype(kind).itemsize)), kind)


def _simulator() -> Any:
    try:
        cuda, config = import_module("numba.cuda"), import_module("numba").config
    except ImportError as error:
        raise ToolError(
            "numba's CUDA simulator", f"numba-cuda cannot be imported ({error})", "numba-cuda",
            'Install it: python -m pip install "unfoldc[cuda]".',
        ) from None  # fmt: skip
    if not config.ENABLE_CUDASIM:
        raise ToolError(
            "numba's CUDA simulator", "numba was imported before NUMBA_ENABLE_CUDASIM=1 was set",
            "the variable set before Python starts", "Start the program again with it.",
        )  # fmt: skip
    return cuda
