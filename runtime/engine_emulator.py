"""Runs firmware on an emulated device: the answers are the device's, instructions are counted, seconds mean nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.engine import WithoutStamps
from unfoldc.runtime.one_by_one import problem_of, solve_one_by_one
from unfoldc.targets.boards import find_target

if TYPE_CHECKING:
    from unfoldc.targets.emulator import Counts, Emulator


class EmulatorEngine(WithoutStamps):
    """One emulated device, started at the first call; it solves one problem after the other, threads take turns."""

    def __init__(self, artifact: Artifact, target: str, elf: Path) -> None:
        from unfoldc.targets.firmware_file import read_firmware

        self._target = find_target(target)
        self._firmware = read_firmware(elf, artifact.symbol, self._target)
        self.flash_bytes, self.ram_bytes = self._firmware.flash_bytes, self._firmware.ram_bytes
        self.stack_bound_bytes = self._firmware.stack_bound_bytes
        self._artifact = artifact

    @functools.cached_property
    def _emulator(self) -> Emulator:
        from unfoldc.targets.emulator import Emulator

        return Emulator(self._firmware, self._artifact, self._target)

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        solve_one_by_one(
            self._artifact, lambda problem: self._emulator.solve(problem, iterations), inputs, outputs, batch
        )

    def count(self, inputs: Sequence[np.ndarray]) -> Counts:
        """Instructions and stack of one solve of the first problem."""
        return self._emulator.count(problem_of(self._artifact, inputs, 0))
