"""Runs a solver's firmware on a machine of QEMU's: the answers are the device's, instructions are counted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.build_subfolder import BuildSubfolder
from unfoldc.runtime.device_engine import DeviceEngine
from unfoldc.runtime.engine import WithoutStamps
from unfoldc.runtime.products import device_objects
from unfoldc.runtime.programs import QEMU
from unfoldc.targets.boards import find_target
from unfoldc.targets.description import Target
from unfoldc.targets.firmware_file import read_firmware
from unfoldc.targets.qemu import QemuMachine, find_machine
from unfoldc.targets.qemu_build import build_qemu
from unfoldc.targets.qemu_run import QemuDevice

if TYPE_CHECKING:
    from unfoldc.targets.emulator import Counts

TIMEOUT = 120.0
"""Seconds that a request may take where nothing else is said."""


class QemuEngine(WithoutStamps, DeviceEngine[QemuDevice]):
    """One machine, started at the first call; it solves one problem after the other, threads take turns.

    The program is linked for the machine at once and kept in the build's folder. Flash, RAM and the bound of the stack
    are those of the firmware for the target itself. A request may take `timeout` s. After a `DeviceError` the machine
    is given up; the next call starts another.
    """

    def __init__(
        self, build: Build, *, timeout: float = TIMEOUT, progress: Callable[[str], None] | None = None
    ) -> None:
        artifact, target = build.artifact, find_target(build.target)
        machine = find_machine(target)
        firmware = read_firmware(build.folder / build.product, artifact.symbol, target)
        self.flash_bytes, self.ram_bytes = firmware.flash_bytes, firmware.ram_bytes
        self.stack_bound_bytes = firmware.stack_bound_bytes
        self.note = f"run and counted by QEMU's {machine.name}{machine.differs}"
        self._folder = BuildSubfolder(build.folder, QEMU)
        elf = _build(build, target, machine, self._folder.path, progress)
        self.programs = (elf,)
        super().__init__(artifact, lambda: QemuDevice(artifact, target, machine, elf, timeout=timeout))

    def count(self, inputs: Sequence[np.ndarray]) -> Counts:
        """Instructions and stack of one solve of the first problem."""
        problem = self._problem(inputs, 0)
        return self._with_device(lambda device: device.count(problem))


def _build(
    build: Build, target: Target, machine: QemuMachine, folder: Path, progress: Callable[[str], None] | None
) -> Path:
    """The program for the machine, in `folder`."""
    with tempfile.TemporaryDirectory(prefix="unfoldc-") as scratch:
        objects = device_objects(build.artifact, Path(scratch), target)
        return build_qemu(build.artifact, target, machine, folder, objects=objects, progress=progress)
