"""Runs a solver's firmware on a machine of QEMU's: the answers are the device's, instructions are counted."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from unfoldc.errors import DeviceError, InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime.artifact_folder import Build
from unfoldc.targets.boards import find_target
from unfoldc.targets.firmware_file import read_firmware
from unfoldc.targets.qemu import find_machine
from unfoldc.targets.qemu_build import build_qemu

if TYPE_CHECKING:
    from unfoldc.targets.emulator import Counts
    from unfoldc.targets.qemu_run import QemuDevice

_FOLDER = "qemu"
T = TypeVar("T")


class QemuEngine:
    """One machine, started at the first call; it solves one problem after the other, threads take turns.

    The program is linked for the machine at once and kept in the build's folder. Flash, RAM and the bound of the stack
    are those of the firmware for the target itself. A request may take `timeout` s. After a `DeviceError` the machine
    is given up; the next call starts another.
    """

    def __init__(self, build: Build, *, timeout: float = 120.0, progress: Callable[[str], None] | None = None) -> None:
        target = find_target(build.target)
        self._machine = find_machine(target)
        firmware = read_firmware(build.folder / build.product, build.artifact.symbol, target)
        self.flash_bytes, self.ram_bytes = firmware.flash_bytes, firmware.ram_bytes
        self.stack_bound_bytes = firmware.stack_bound_bytes
        self.note = f"run and counted by QEMU's {self._machine.name}{self._machine.differs}"
        self._artifact, self._target, self._timeout = build.artifact, target, timeout
        self._own: tempfile.TemporaryDirectory[str] | None = None  # removed with this object
        self._elf = self._build(build, progress)
        self._lock = threading.RLock()
        self._devices: list[QemuDevice] = []  # at most one; a list, which the finaliser can hold without holding us
        weakref.finalize(self, _close, self._devices)

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        for item in range(batch):
            problem = _problem(self._artifact.inputs, inputs, item)
            answers = self._with_device(lambda device, p=problem: device.solve(p, iterations))  # type: ignore[misc]
            for port, output, answer in zip(self._artifact.outputs, outputs, answers, strict=True):
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
        problem = _problem(self._artifact.inputs, inputs, 0)
        return self._with_device(lambda device: device.count(problem))

    def close(self) -> None:
        """End the machine; the next call starts another."""
        with self._lock:
            _close(self._devices)

    def _with_device(self, use: Callable[[QemuDevice], T]) -> T:
        from unfoldc.targets.qemu_run import QemuDevice

        with self._lock:
            if not self._devices:
                found = QemuDevice(self._artifact, self._target, self._machine, self._elf, timeout=self._timeout)
                self._devices.append(found)
            try:
                return use(self._devices[0])
            except BaseException as error:
                # Whatever it was, Ctrl-C too: an answer may still be on its way, so the machine is of no more use.
                if isinstance(error, DeviceError) or not isinstance(error, Exception):
                    _close(self._devices)
                raise

    def _build(self, build: Build, progress: Callable[[str], None] | None) -> Path:
        """The program for the machine, in the build's folder where that may be written to, else in a temporary one."""
        folder = build.folder / _FOLDER
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            self._own = tempfile.TemporaryDirectory(prefix="unfoldc-")
            folder = Path(self._own.name)
        with tempfile.TemporaryDirectory(prefix="unfoldc-") as scratch:
            objects: list[Path] = []
            if build.artifact.backend == "tvm":
                from unfoldc.targets.tvm_build import build_objects

                objects = build_objects(build.artifact, Path(scratch), self._target.core)
            return build_qemu(build.artifact, self._target, self._machine, folder, objects=objects, progress=progress)


def _close(devices: list[QemuDevice]) -> None:
    while devices:
        devices.pop().close()


def _problem(ports: Sequence[Port], arrays: Sequence[np.ndarray], item: int) -> list[np.ndarray]:
    return [array[item] if port.batched else array for port, array in zip(ports, arrays, strict=True)]
