"""What a run gives back: the answers, how it ended, and how many iterations it took."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Status(Enum):
    """How a run ended; `str` of it says what to think of the answer."""

    COMPLETE = "all iterations ran"
    STOPPED = (
        "stopped early, as asked: the answer is an estimate after fewer iterations than were trained; "
        "run more for a better one"
    )
    NOT_FINITE = (
        "the answer holds NaN or Inf: the iterations diverged or the input was not finite; "
        "check the input, and whether it is scaled like the training data"
    )

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class RunResult:
    """Answers by output name, how the run ended, and the iterations that ran."""

    outputs: dict[str, np.ndarray]
    status: Status
    iterations: int


def status_of(outputs: dict[str, np.ndarray], iterations: int, trained: int) -> Status:
    """The status of a run of `iterations` out of `trained` ones; an answer that is not finite outweighs the rest."""
    for array in outputs.values():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return Status.NOT_FINITE
    return Status.COMPLETE if iterations == trained else Status.STOPPED
