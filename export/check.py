"""The exported file against the module: ONNX's own checker, then the same inputs through both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from unfoldc.errors import ExportError
from unfoldc.export.engines import Array, load
from unfoldc.export.evaluation import comparing
from unfoldc.export.examples import Examples
from unfoldc.export.fresh_inputs import fresh, rounded
from unfoldc.export.outputs import flatten

Iterates = Callable[[Sequence[Tensor]], Mapping[str, Tensor]]

# The largest error allowed, relative to the norm; exact for whole numbers.
LIMITS = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2}
_SEED = 20250
# Solves, exact or approximated, amplify rounding by the condition of their matrix. Where a file has some, an error may
# be so many times what rounding inputs and weights differently makes in PyTorch itself, and as many times the limit.
_TIMES_ROUNDING, _TIMES_LIMIT = 30, 100


@dataclass(frozen=True)
class Agreement:
    """What the comparison found: the largest error relative to the norm, over `runs` runs; `limit` is what was allowed.

    `iterates` says whether the iterates were compared as well; `by` what ran the file.
    """

    error: float
    limit: float
    runs: int
    iterates: bool
    by: str = "ONNX Runtime"


def check_model(path: Path) -> None:
    """ONNX's checker, types and shapes included.

    Raises:
        ExportError: it objects.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise ExportError(
            path.name,
            f"ONNX's checker objects: {str(error).strip().splitlines()[0]}",
            "a valid ONNX model",
            "Try another opset; if that does not help, report this with the module.",
        ) from error


def compare(
    path: Path, module: nn.Module, examples: Examples, outputs: Sequence[str], iterates: Iterates | None = None
) -> Agreement:
    """Run the file and the module on the examples and on fresh random inputs, with several batch sizes if that is free.

    The error of a problem is ||onnx - torch|| / max(||torch||, median norm of the batch); NaN and infinity must stand
    in the same places. `iterates` gives PyTorch's values of the further outputs.

    Raises:
        ExportError: they differ by more than `LIMITS` allows, or one of them cannot run.
    """
    engine = load(path)
    approximated = "approximated" in (getattr(module, "unfoldc_metadata", None) or {})
    solves = approximated or bool(onnx.load(path, load_external_data=False).functions)
    generator = torch.Generator().manual_seed(_SEED)
    batches = (1, examples.batch, examples.batch + 3) if examples.batch is not None else (0, 0)
    largest, limit = 0.0, 0.0
    inputs = [(size, examples.resized(size)) for size in batches[1:2]]
    inputs += [(size, fresh(examples, size, generator)) for size in batches]

    def answers(tensors: Sequence[Tensor], size: int) -> dict[str, Array]:
        values = dict(zip(outputs, flatten(_answer(module, tensors, size)), strict=False))
        values.update(iterates(tensors) if iterates is not None else {})
        return {name: array(value) for name, value in values.items()}

    for size, tensors in inputs:
        wanted = answers(tensors, size)
        found = engine({n: array(t) for n, t in zip(examples.names, tensors, strict=True)})
        nearby: list[dict[str, Array]] = []
        for name, theirs in wanted.items():
            allowed = LIMITS.get("float32" if engine.coarse and theirs.dtype == np.float64 else str(theirs.dtype), 0.0)
            batched = examples.batch is not None and theirs.ndim > 0
            error = relative_error(found[name], theirs, batched=batched)
            if solves and allowed < error < _TIMES_LIMIT * allowed:
                for _ in range(0 if nearby else 4):
                    with rounded(module, tensors, generator) as others:
                        nearby.append(answers(others, size))
                rounding = max(relative_error(other[name], theirs, batched=batched) for other in nearby)
                allowed = max(allowed, min(_TIMES_LIMIT * allowed, _TIMES_ROUNDING * rounding))
            if not error <= allowed:
                raise _disagreement(engine.name, name, size, error, allowed)
            largest, limit = max(largest, error), max(limit, allowed)
    return Agreement(largest, limit, len(inputs), iterates is not None, engine.name)


def relative_error(found: Array, wanted: Array, *, batched: bool) -> float:
    """The largest error of a problem relative to max(its norm, the batch's median norm); infinite where NaN differ."""
    if found.shape != wanted.shape:
        return float("inf")
    rows = (len(wanted), -1) if batched and wanted.ndim and len(wanted) else (1, -1)
    a, b = found.astype(np.float64).reshape(rows), wanted.astype(np.float64).reshape(rows)
    strange = ~np.isfinite(b)
    if not np.array_equal(np.isfinite(a), ~strange) or not np.array_equal(a[strange], b[strange], equal_nan=True):
        return float("inf")
    a, b = np.where(strange, 0.0, a), np.where(strange, 0.0, b)
    norms = np.linalg.norm(b, axis=1)
    scale = np.maximum(norms, np.median(norms))
    errors = np.linalg.norm(a - b, axis=1)
    return float(np.max(np.where(scale > 0, errors / np.where(scale > 0, scale, 1.0), errors), initial=0.0))


def array(tensor: Tensor) -> Array:
    """A tensor as a contiguous NumPy array."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _answer(module: nn.Module, tensors: Sequence[Tensor], size: int) -> Any:
    try:
        with comparing():
            return module(*(t.clone() for t in tensors))
    except Exception as error:
        raise ExportError(
            f"{type(module).__name__}.forward",
            f"it ran on the example but not on fresh inputs{f' with a batch of {size}' if size else ''}: {error}",
            "a module that runs on inputs like the example, of any batch size",
            "Check the module with that input, pass batch='fixed', or pass check=False.",
        ) from error


def _disagreement(by: str, name: str, size: int, error: float, allowed: float) -> ExportError:
    return ExportError(
        f"output {name}",
        f"{by} and PyTorch differ by {error:.2e} relative to the norm" + (f" with a batch of {size}" if size else ""),
        f"at most {allowed:.0e}",
        "If forward draws random numbers or keeps state between calls, take that out; if the solver amplifies "
        "rounding, or a matrix is nearly singular, export it in float64; if it is in float64 and the error about "
        "1e-8, an operator of ONNX keeps a number in float32, as Resize does with its scales: write that step with "
        "other operations. Nothing was written.",
    )
