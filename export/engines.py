"""What runs an exported file for the comparison: ONNX Runtime, or ONNX's reference where that lacks an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from unfoldc.errors import ExportError

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]

# Of these the reference computes in float32, whatever the type.
_COARSE = ("AffineGrid", "GridSample")


@dataclass
class Engine:
    """Runs the file at `path`: inputs by name to outputs by name.

    `name` says by what; it changes where ONNX Runtime turns out to lack an operator for a type of the model, mostly
    float64. `coarse` says that it computes some operator in float32, whatever the model's type.
    """

    path: Path
    name: str
    run: Run
    coarse: bool = False

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs.

        Raises:
            ExportError: neither ONNX Runtime nor the reference can run the file.
        """
        try:
            return self.run(inputs)
        except Exception as error:
            if not _missing(error):
                raise _cannot_run(self.path, error) from error
        self.name, self.run, self.coarse = _reference(self.path)
        return self(inputs)


def load(path: Path) -> Engine:
    """The engine for a file.

    Raises:
        ExportError: neither ONNX Runtime nor the reference can read it.
    """
    try:
        return Engine(path, "ONNX Runtime", _runtime(path))
    except Exception as error:
        if not _missing(error):
            raise _cannot_run(path, error) from error
        return Engine(path, *_reference(path))


def _missing(error: Exception) -> bool:
    """Whether ONNX Runtime lacks an operator for a type; of some it says so only when they run."""
    return type(error).__name__ == "NotImplemented" or "does not support double" in str(error)


def _runtime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path),
        options,
        providers=["CPUExecutionProvider"],
        # It keeps the factor in float32.
        disabled_optimizers=["MatMulScaleFusion"],
    )
    names = [value.name for value in session.get_outputs()]
    read = {value.name for value in session.get_inputs()}

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        answer = session.run(None, {n: a for n, a in inputs.items() if n in read})
        return dict(zip(names, answer, strict=True))

    return run


def _reference(path: Path) -> tuple[str, Run, bool]:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Erf(OpRun):
        """The reference's own result is float32."""

        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),)

    try:
        model = onnx.load(path)
        evaluator = ReferenceEvaluator(model, new_ops=[Erf])
    except Exception as error:
        raise _cannot_run(path, error) from error
    names = [value.name for value in model.graph.output]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return dict(zip(names, evaluator.run(None, dict(inputs)), strict=True))

    return "ONNX's reference evaluator", run, any(node.op_type in _COARSE for node in model.graph.node)


def _cannot_run(path: Path, error: Exception) -> ExportError:
    return ExportError(
        path.name,
        f"ONNX Runtime cannot run the exported model: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
        "operators and types that ONNX Runtime has on the CPU",
        "Export in float32, write the step differently, or pass check=False to do without the comparison.",
    )
