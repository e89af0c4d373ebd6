"""Runs firmware on an emulated device: the answers are the device's, instructions are counted, seconds mean nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.targets.boards import find_target

if TYPE_CHECKING:
    from unfoldc.targets.emulator import Counts, Emulator


class EmulatorEngine:
    """One emulated device, started at the first call; it solves one problem after the other, threads take turns."""

    def __init__(self, artifact: Artifact, target: str, elf: Path) -> None:
        from unfoldc.targets.firmware_file import read_firmware

        self._target = find_target(target)
        self._firmware = read_firmware(elf, artifact.symbol, self._target)
        self.flash_bytes, self.ram_bytes = self._firmware.flash_bytes, self._firmware.ram_bytes
        self.stack_bound_bytes = self._firmware.stack_bound_bytes
        self._artifact = artifact
        self._ports, self._outputs = artifact.inputs, artifact.outputs

    @functools.cached_property
    def _emulator(self) -> Emulator:
        from unfoldc.targets.emulator import Emulator

        return Emulator(self._firmware, self._artifact, self._target)

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        for item in range(batch):
            answers = self._emulator.solve(_problem(self._ports, inputs, item), iterations)
            for port, output, answer in zip(self._outputs, outputs, answers, strict=True):
                (output[item : item + 1] if port.batched else output)[...] = answer

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Not possible: raises InputError."""
        raise InputError("emulated device", "it has no clock", "counting instructions", "Use Solver.profile.")

    def count(self, inputs: Sequence[np.ndarray]) -> Counts:
        """Instructions and stack of one solve of the first problem."""
        return self._emulator.count(_problem(self._ports, inputs, 0))


def _problem(ports: Sequence[Port], arrays: Sequence[np.ndarray], item: int) -> list[np.ndarray]:
    return [array[item] if port.batched else array for port, array in zip(ports, arrays, strict=True)]
