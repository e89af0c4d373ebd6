"""What the runtime asks of an engine, the thing that executes a compiled solver: a class per back end, all alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from unfoldc.targets.emulator import Counts


class Engine(Protocol):
    """Executes one compiled solver. Several threads may call at once.

    The arrays are C-contiguous and of the ports' types: the solver has checked them. A batched port has the batch axis
    in front, and `batch` may be 0, which measures the cost of a call. Iterations run from 1 to K.
    """

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        ...

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add the ticks of begin, of each iteration and of end to the K + 2 items of `ticks`."""
        ...


class CountingEngine(Engine, Protocol):
    """An engine of an emulated device: it counts instructions where others read a clock."""

    flash_bytes: int
    ram_bytes: int
    stack_bound_bytes: int | None

    def count(self, inputs: Sequence[np.ndarray]) -> Counts:
        """Run one problem (the first of the batch) and count its instructions."""
        ...
