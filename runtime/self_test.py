"""Draws the problem that a project's self-test solves, and verifies that the device solves it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfoldc.errors import UnfoldcError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.kernels.program import Program
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.convergence import new_outputs
from unfoldc.runtime.engine import Engine
from unfoldc.runtime.ports import batched
from unfoldc.targets.project import SelfTest

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
"""Element type -> by how much an element may differ, relative to the largest magnitude in its output; else exact."""

# The scale of the random numbers: a solver may diverge for large ones.
_SCALES = (1.0, 1.0, 0.3, 0.1, 0.03)
# An answer of the device must be this much better than the tolerance: other compilers add in another order.
_MARGIN = 4.0
Arrays = tuple[np.ndarray, ...]


def draw_self_test(build: Build, engine: Engine) -> SelfTest:
    """One problem of normal random numbers (zeros for integers), the same each time, and its answer.

    The answer is that of the model evaluated in float64, rounded. A problem is taken if the answer is finite and the
    device's is the same with room to spare; where there is no such problem, the tolerance is what the device needs,
    and the note says so.
    """
    from unfoldc.kernels.pipeline import load_program

    options, artifact = build.options, build.artifact
    _, program = load_program(build.folder / build.model, options.get("batch"), options.get("dimensions"))
    usual = tuple(TOLERANCES.get(port.dtype, 0.0) for port in artifact.outputs)
    best: tuple[float, Arrays, Arrays, tuple[float, ...]] | None = None
    for seed, scale in enumerate(_SCALES):
        inputs = _draw(artifact.inputs, seed, scale)
        expected = _answer(program, artifact.outputs, inputs)
        if not all(np.isfinite(value).all() for value in expected if value.dtype.kind == "f"):
            continue
        try:
            differences = _differences(artifact, engine, inputs, expected)
        except UnfoldcError as error:
            note = f"The self-test was not tried on the device: {error.found}."
            return _made(inputs, expected, usual, note)
        worst = max(_excess(d, t, e) for d, t, e in zip(differences, usual, expected, strict=True))
        if worst * _MARGIN <= 1:
            return _made(inputs, expected, usual)
        if best is None or worst < best[0]:
            best = worst, inputs, expected, differences
    if best is None:
        inputs = _draw(artifact.inputs, 0, 1.0)
        note = "For random inputs the answer of this model is not finite, so the self-test compares little."
        return _made(inputs, _answer(program, artifact.outputs, inputs), usual, note)
    worst, inputs, expected, differences = best
    if not np.isfinite(worst):
        return _made(inputs, expected, usual, "On its emulator this solver gives another answer: the self-test fails.")
    wide = tuple(max(t, 2 * d / _size(e)) for t, d, e in zip(usual, differences, expected, strict=True))
    note = f"This solver magnifies rounding: the self-test allows {max(wide):.2g}, twice the error on the device."
    return _made(inputs, expected, wide, note)


def _made(inputs: Arrays, expected: Arrays, tolerances: tuple[float, ...], note: str = "") -> SelfTest:
    allowed = tuple(float(t) * _size(value) for t, value in zip(tolerances, expected, strict=True))
    return SelfTest(inputs, expected, allowed, max(tolerances, default=0.0), note)


def _size(value: np.ndarray) -> float:
    """The largest magnitude; 1 for zeros."""
    finite = np.abs(value[np.isfinite(value)].astype(np.float64)) if value.dtype.kind == "f" else np.ones(1)
    return float(finite.max(initial=0.0)) or 1.0


def _draw(ports: Sequence[Port], seed: int, scale: float) -> Arrays:
    generator = np.random.default_rng(seed)
    return tuple(
        (scale * generator.standard_normal(p.shape) if np.dtype(p.dtype).kind == "f" else np.zeros(p.shape)).astype(
            p.dtype
        )
        for p in ports
    )


def _answer(program: Program, ports: Sequence[Port], inputs: Arrays) -> Arrays:
    from unfoldc.kernels.printers.reference.evaluate import evaluate

    problem = {
        name: value.reshape(program.types[name].shape) for name, value in zip(program.inputs, inputs, strict=True)
    }
    found = evaluate(program, problem)
    with np.errstate(all="ignore"):
        return tuple(
            np.asarray(value).reshape(port.shape).astype(port.dtype) for port, value in zip(ports, found, strict=True)
        )


def _differences(artifact: Artifact, engine: Engine, inputs: Arrays, expected: Arrays) -> tuple[float, ...]:
    """The largest difference between the device's answer and what is expected, for each output."""
    outputs = new_outputs(artifact, 1)
    engine.solve(batched(artifact.inputs, inputs), outputs, 1, artifact.iterations)
    found = []
    with np.errstate(all="ignore"):
        for port, value, right in zip(artifact.outputs, outputs, expected, strict=True):
            gap = np.abs(value.reshape(port.shape).astype(np.float64) - right.astype(np.float64))
            found.append(float(gap.max(initial=0.0)) if np.isfinite(gap).all() else np.inf)
    return tuple(found)


def _excess(difference: float, tolerance: float, expected: np.ndarray) -> float:
    if difference == 0:
        return 0.0
    return difference / (tolerance * _size(expected)) if tolerance else np.inf
