"""A compiled solver beside PyTorch: the error of every iterate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import unfoldc
from solver_zoo.exports import Case
from unfoldc.kernels.inspect import Inspection, describe
from unfoldc.runtime import Solver


def error(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """||found - expected|| / ||expected||, the largest of the outputs; of a stream the rows that there are so far."""
    assert len(found) == len(expected), f"{len(found)} outputs instead of {len(expected)}"
    worst = 0.0
    for x, right in zip(found, expected, strict=True):
        part = x[tuple(slice(n) for n in right.shape)].astype(np.float64)
        assert part.shape == right.shape, f"shape {x.shape} instead of {right.shape}"
        difference, norm = float(np.linalg.norm(part - right)), float(np.linalg.norm(right))
        if not np.isfinite(difference):
            return float("inf")
        worst = max(worst, difference / max(norm, 1e-12))
    return worst


def compiled(case: Case, backend: str = "auto", target: str = "host") -> Solver:
    """The solver of a case, compiled."""
    return unfoldc.compile(case.path, target=target, backend=backend)


def errors(solver: Solver, case: Case, problems: int | None = None) -> list[float]:
    """The error after each iteration that the solver can be stopped at; only of the answer where it cannot.

    problems: take the first of the batch only, for an emulated device is slow.
    """
    arrays, expected = named_inputs(solver, case, problems), case.expected
    if problems is not None and case.way.dynamic:
        expected = [tuple(x[:problems] for x in outputs) for outputs in expected]
    if solver.iterations != case.iterations or solver.artifact.early_stop:
        return [error(list(solver.run(arrays).outputs.values()), expected[-1])]
    return [
        error(list(solver.run(arrays, iterations=k).outputs.values()), right) for k, right in enumerate(expected, 1)
    ]


def named_inputs(solver: Solver, case: Case, problems: int | None = None) -> dict[str, np.ndarray]:
    """The inputs by their names in the program; the first `problems` of a batch that may be of any size."""
    some = slice(problems if case.way.dynamic else None)
    shared = case.entry.shared_inputs
    arrays = [a if i in shared else a[some] for i, a in enumerate(case.inputs)]
    return dict(zip([port.name for port in solver.inputs], arrays, strict=True))


def rolls(case: Case) -> bool:
    """Whether the program has one body for all K iterations."""
    return rolled(describe(case.path), case)


def rolled(inspection: Inspection, case: Case) -> bool:
    """The same of an inspection that is at hand."""
    return inspection.rolled and inspection.iterations == case.iterations
