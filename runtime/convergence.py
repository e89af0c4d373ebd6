"""How good the answer is after each iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unfoldc.errors import InputError, printable
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.runtime.engine import Engine

Arrays = list[np.ndarray]


def errors_by_iteration(
    artifact: Artifact, engine: Engine, inputs: Arrays, batch: int, truth: Any, *, first_only: bool = False
) -> tuple[list[float | None], str]:
    """Relative error ||x_k - x|| / ||x|| of the answer after k iterations, k = 1..K, and a text that says what x is.

    x is `truth`: an array for the first output, or a mapping from the name of one output to its array; without it
    the solver's own answer after K iterations. None where an error cannot be given. Raises InputError for a truth that
    does not fit. `first_only` looks at the first problem of the batch, where each takes long.
    """
    steps = artifact.iterations
    port, given = _truth(artifact, truth)
    index = artifact.outputs.index(port)
    right = None if given is None else _fitting(given, new_outputs(artifact, batch)[index].shape, port.name)
    alone = f", for the first of {batch} problems" if first_only and batch > 1 else ""
    if alone:
        inputs = [array[:1] if p.batched else array for p, array in zip(artifact.inputs, inputs, strict=True)]
        right = right[:1] if right is not None and port.batched else right
        batch = 1

    def answer(k: int) -> np.ndarray:
        outputs = new_outputs(artifact, batch)
        engine.solve(inputs, outputs, batch, k)
        return outputs[index].astype(np.float64)

    final = answer(steps)
    error_of = f"of {printable(port.name)}, relative to the truth that was given"
    if right is None:
        right = final
        error_of = f"of {printable(port.name)}, relative to the solver's own answer after {steps} iterations"
    error_of += alone
    norm = float(np.linalg.norm(right))
    if not np.isfinite(norm) or norm == 0.0:
        return [None] * steps, f"{error_of}, which is zero or not finite: no error can be given"
    last = _relative(final, right, norm)
    if artifact.early_stop:
        return [*[None] * (steps - 1), last], f"{error_of}; at the end only, for {artifact.early_stop}"
    errors = [*(_relative(answer(k), right, norm) for k in range(1, steps)), last]
    return errors, error_of + ("; none where the answer is not finite" if None in errors else "")


def new_outputs(artifact: Artifact, batch: int) -> Arrays:
    """Arrays for the answers to `batch` problems."""
    return [np.empty((batch, *p.shape) if p.batched else p.shape, p.dtype) for p in artifact.outputs]


def _relative(estimate: np.ndarray, right: np.ndarray, norm: float) -> float | None:
    with np.errstate(all="ignore"):
        error = float(np.linalg.norm(estimate - right)) / norm
    return error if np.isfinite(error) else None


def _truth(artifact: Artifact, truth: Any) -> tuple[Port, Any]:
    names = {port.name: port for port in artifact.outputs}
    if not isinstance(truth, Mapping):
        return artifact.outputs[0], truth
    if len(truth) != 1 or next(iter(truth)) not in names:
        found = ", ".join(map(str, truth)) or "nothing"
        raise InputError("truth", found, f"one of {', '.join(names)}", "Give the right answer of one output.")
    name = next(iter(truth))
    return names[name], truth[name]


def _fitting(truth: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    try:
        array = np.asarray(truth, np.float64)
    except (ValueError, TypeError) as error:
        allowed = f"an array of shape {shape}"
        raise InputError("truth", f"no array of numbers ({error})", allowed, f"Pass the right {name}.") from None
    if array.shape != shape:
        found, allowed = f"shape {array.shape}", f"shape {shape}"
        raise InputError("truth", found, allowed, f"Pass the right {name} for the same batch.")
    return array
