"""The time of each part of a launch: from stamps that blocks write, or from events between the launches of a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from unfoldc.runtime.cuda.listed import ListKernel

if TYPE_CHECKING:
    from unfoldc.runtime.cuda.code import DeviceCode
    from unfoldc.runtime.cuda.kernel import Kernel


class Stopwatch:
    """What a timed launch of `kernel` writes and records, for a batch; from `stopwatch`.

    `stamps`: what comes from the GPU's memory, none for a list of launches; `marks` are for `DeviceCode.launch`.
    """

    def __init__(self, code: DeviceCode, kernel: Kernel, batch: int, marks: list[Any]) -> None:
        blocks = 0 if marks else kernel.blocks(batch)
        self.stamps, self.marks = np.zeros((blocks, code.facts.stamps), np.int64), marks
        self._code, self._units = code, kernel.form.units(batch)

    def clear(self, room: int, stream: Any) -> int:
        """Zeros at this address: a block without problems writes none. What the kernel is told; 0 where none stamps."""
        if not self.stamps.size:
            return 0
        self._code.driver("cuMemsetD8Async", room, 0, self.stamps.nbytes, stream)
        return room

    def nanoseconds(self, iterations: int) -> np.ndarray:
        """Of begin, each of the K iterations and end, once the launch is done; 0 for those that did not run."""
        steps = self._code.facts.stamps - 3
        if not self.marks:
            return block_means(self.stamps, steps, self._units) * self._code.cycle_nanoseconds
        marks = self.marks[: iterations + 3]
        took = [1e6 * self._code.driver("cuEventElapsedTime", a, b) for a, b in zip(marks, marks[1:], strict=False)]
        return np.array([*took[:-1], *[0.0] * (steps - iterations), took[-1]])


@contextmanager
def stopwatch(code: DeviceCode, kernel: Kernel, batch: int) -> Iterator[Stopwatch]:
    """Times launches of a kernel one after the other; the context is current."""
    with code.driver.events(code.facts.stamps if isinstance(kernel, ListKernel) else 0) as marks:
        yield Stopwatch(code, kernel, batch, marks)


def block_means(stamps: np.ndarray, iterations: int, units: int = 1) -> np.ndarray:
    """Time of begin, each iteration and end `(K + 2,)`, of one problem, in the stamps' unit: the mean over the blocks.

    stamps: `(blocks, K + 2)` or `(blocks, K + 3)`: at the start, after begin and each iteration, and after end where
    there is one more; all but the first are those of the last problems that a block solved. 0 where a part did not run,
    whose time is then 0.
    units: what the blocks share out, each taking every so many; what a block solved before its last unit lies between
    its first two stamps and is taken out there.
    """
    blocks = len(stamps)
    busy = stamps[:, 0] > 0
    if not busy.any():
        return np.zeros(iterations + 2)
    rounds = np.maximum(1, -(-(units - np.arange(blocks)) // blocks))[busy].astype(np.float64)
    filled = np.maximum.accumulate(stamps[busy].astype(np.float64), axis=1)
    parts = np.diff(filled, axis=1)
    alone = (parts[:, 0] - (rounds - 1) * parts[:, 1:].sum(axis=1)) / rounds
    parts[:, 0] = np.where(alone > 0, alone, parts[:, 0] / rounds)  # the last problem may have taken longer than others
    means = np.zeros(iterations + 2)
    found = parts.mean(axis=0)[: iterations + 2]
    means[: len(found)] = found
    return means
