"""From the stamps that blocks write to the time of each part."""

from __future__ import annotations

import numpy as np


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
