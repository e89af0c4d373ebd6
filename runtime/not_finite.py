"""Where NaN and Inf stand in arrays, and after which iteration they came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from unfoldc.runtime.solver import Solver


@dataclass(frozen=True)
class NotFinite:
    """How many of an array's `values` are NaN and how many infinite; `problems` (from 0 on) are those they stand in."""

    values: int
    nan: int
    infinite: int
    problems: tuple[int, ...] = ()

    def __str__(self) -> str:
        several = len(self.problems) > 1
        more = f" and {len(self.problems) - 1} more" if several else ""
        where = f" in problem {self.problems[0]}{more}" if self.problems else ""
        kinds = f"{self.nan} NaN, {self.infinite} Inf"
        return f"{self.nan + self.infinite} of {self.values} values are not finite ({kinds}){where}"


def not_finite(array: np.ndarray, batched: bool) -> NotFinite | None:
    """What of the array is not finite; None where all is. `batched`: it has the problems along its first axis."""
    if array.dtype.kind != "f":
        return None
    wrong = ~np.isfinite(array)
    if not wrong.any():
        return None
    rows = wrong.reshape(len(array), -1).any(axis=1) if batched else np.zeros(0, bool)
    nan = int(np.isnan(array).sum())
    return NotFinite(array.size, nan, int(wrong.sum()) - nan, tuple(map(int, np.flatnonzero(rows))))


def first_iteration(solver: Solver, inputs: Mapping[str, Any], iterations: int, problem: int | None) -> int | None:
    """The iteration from which on the answer to one problem of the batch (None: all of it) is not finite.

    It is not finite after `iterations`. Solves again up to `iterations` - 1 times; None where the solver cannot stop
    early. Problems are looked at alone where the batch is open.
    """
    from unfoldc.runtime.result import Status

    if solver.artifact.early_stop:
        return None
    if problem is not None and solver.batch is None:
        batched = {port.name for port in solver.inputs if port.batched}
        inputs = {n: np.asarray(a)[problem : problem + 1] if n in batched else a for n, a in inputs.items()}
    for k in range(1, iterations):
        if solver.run(inputs, k).status is Status.NOT_FINITE:
            return k
    return iterations
