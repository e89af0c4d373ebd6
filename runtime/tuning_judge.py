"""Whether another schedule of a solver still gives the right answers: as near to float64 as before, NaN where NaN was.

Schedules add in another order, so their answers differ by roundings, which a solver may amplify. A candidate may be a
few times as far from the answers in float64 as the untuned solver is, or `_TOLERANCE` of their norm.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.contest import random_inputs
from unfoldc.runtime.convergence import Arrays, new_outputs
from unfoldc.runtime.engine import Engine

_TOLERANCE = 1e-5  # of the norm of the answer
_TIMES = 8.0
_FEW = 2  # problems that NumPy solves in float64, and an emulated device one of them
_MANY = 67  # problems: whole groups side by side, and some left over
# Random numbers, of which a solver may lose all digits where they are large, or where some are negative.
_KINDS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (lambda a: -0.75 * a, lambda a: 0.1 * a, np.abs)
_SOUND = 1e-3  # the error of an answer that keeps enough of them
_MOST_BYTES = 1 << 26  # of arrays for many problems


class Judge:
    """Holds random problems, and the answers to them of the untuned solver and, where there is one, in float64."""

    def __init__(self, artifact: Artifact, untuned: Engine, exact: Engine | None, *, emulated: bool) -> None:
        """`exact` computes in float64; without it the untuned solver is the standard. `emulated` devices take long."""
        self.artifact = artifact
        open_ = artifact.batch is None and any(port.batched for port in artifact.inputs)
        few = artifact.batch if artifact.batch is not None else (_FEW if open_ and not emulated else 1)
        drawn = []
        for number, kind in enumerate(_KINDS):
            sound = _problems(artifact, few, kind)
            found = _answer(artifact, untuned, sound, few)
            right = found if exact is None else _answer(artifact, exact, sound, few, "float64")
            apart = max((_distance(x, y) for x, y in zip(found, right, strict=True)), default=0.0)
            drawn.append((apart, number, sound, right))
            if apart < _SOUND:
                break
        apart, number, sound, self._exact = min(drawn, key=lambda d: d[:2])
        self._allowed = max(_TOLERANCE, _TIMES * apart)
        self._cases = [(few, sound), (few, _with_nan(sound))]
        if open_ and not emulated:
            many = _problems(artifact, _MANY, _KINDS[number])
            self._cases += [(_MANY, many)] * (sum(a.nbytes for a in many) <= _MOST_BYTES)
        self._untuned = [_answer(artifact, untuned, inputs, batch) for batch, inputs in self._cases]

    def fault(self, candidate: Engine) -> str:
        """What is wrong with the candidate's answers; empty if nothing is."""
        for number, ((batch, inputs), untuned) in enumerate(zip(self._cases, self._untuned, strict=True)):
            found = _answer(self.artifact, candidate, inputs, batch)
            for a, b in zip(found, untuned, strict=True):
                if (np.isfinite(a) != np.isfinite(b)).any():
                    return "it is finite where the untuned solver is not, or the other way round"
            # Many problems are not solved in float64: twice the distance is what two right answers may have.
            standard, times = (self._exact, 1) if number == 0 else (untuned, 2)
            apart = max((_distance(a, b) for a, b in zip(found, standard, strict=True)), default=0.0)
            if apart > times * self._allowed:
                return f"it is {apart:.2g} off, relative to the norm of the answer"
        return ""


def _problems(artifact: Artifact, batch: int, kind: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    """Other problems than those that are timed."""
    return [kind(a).astype(a.dtype) if a.dtype.kind == "f" else a for a in random_inputs(artifact, batch)]


def _with_nan(inputs: Arrays) -> Arrays:
    changed = [array.copy() for array in inputs]
    for array in changed:
        if array.dtype.kind == "f" and array.size:
            array.ravel()[array.size // 2] = np.nan
            break
    return changed


def _answer(artifact: Artifact, engine: Engine, inputs: Arrays, batch: int, floats: str = "") -> Arrays:
    outputs = new_outputs(artifact, batch)
    if floats:
        outputs = [np.zeros(a.shape, floats if a.dtype.kind == "f" else a.dtype) for a in outputs]
    with np.errstate(all="ignore"):
        engine.solve(inputs, outputs, batch, artifact.iterations)
    return outputs


def _distance(found: np.ndarray, right: np.ndarray) -> float:
    """Relative to the norm of what is right, over the numbers that are finite in both."""
    x, y = (np.asarray(v, np.float64).ravel() for v in (found, right))
    both = np.isfinite(x) & np.isfinite(y)
    apart, norm = float(np.linalg.norm((x - y)[both])), float(np.linalg.norm(y[both]))
    return apart / norm if norm else float(apart > 0)
