"""From the stamps that blocks write to the time of each part."""

from __future__ import annotations

import numpy as np


def block_means(stamps: np.ndarray, iterations: int) -> np.ndarray:
    """Nanoseconds of begin, each iteration and end `(K + 2,)`: the mean over the blocks that solved something.

    stamps: `(blocks, K + 3)`; 0 where a part did not run, whose time is then 0.
    """
    busy = stamps[stamps[:, 0] > 0].astype(np.float64)
    if not len(busy):
        return np.zeros(iterations + 2)
    filled = np.maximum.accumulate(busy, axis=1)
    means: np.ndarray = np.diff(filled, axis=1).mean(axis=0)[: iterations + 2]
    return means
