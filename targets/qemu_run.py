"""Starts a solver's firmware on a machine of QEMU's; says in words how it ended where it should not have."""

from __future__ import annotations

import contextlib
import math
import os
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from unfoldc.errors import DeviceError, UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.description import MemoryRegion, Target
from unfoldc.targets.emulator import Counts
from unfoldc.targets.firmware_file import read_firmware
from unfoldc.targets.qemu import QemuMachine
from unfoldc.targets.qemu_faults import ending_of, fault_of
from unfoldc.targets.remote.device import Device
from unfoldc.targets.remote.process_channel import ProcessChannel
from unfoldc.targets.tools import find_tool, require_tools

T = TypeVar("T")
# Firmware needs no rights of this computer's beyond reading and writing its pipes.
_CONFINED = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")


def command(machine: QemuMachine, elf: Path) -> list[str]:
    """The command that runs `elf` on `machine`, with its standard input and output as the firmware's stream."""
    return [
        *(find_tool(machine.program) or machine.program, *machine.arguments),
        *("-nodefaults", "-display", "none", "-no-reboot", *_CONFINED),
        *("-icount", f"shift={machine.shift}", "-semihosting-config", "enable=on,target=native"),
        *("-kernel", str(elf)),
    ]


class QemuDevice:
    """A running machine that waits for problems; its process ends with this object at the latest.

    `elf` is what `build_qemu` made. `timeout`: seconds that a request may take. Not for several threads at once. Raises
    ToolError where QEMU is not installed, DeviceError where the machine hangs or its program crashes, after which
    nothing but `close` may be called.
    """

    def __init__(
        self, artifact: Artifact, target: Target, machine: QemuMachine, elf: Path, *, timeout: float = 120.0
    ) -> None:
        name = f"{artifact.symbol} on QEMU's {machine.name}"
        require_tools([machine.program], name)
        self._artifact, self._name, self._timeout = artifact, name, timeout
        placed = replace(target, flash=MemoryRegion(0, 1 << 32), ram=machine.ram)  # for its symbols only
        channel = ProcessChannel(
            name,
            command(machine, elf),
            explain=lambda of, status, words: _explain(of, status, words, artifact.symbol, placed, elf),
            grace=1.0,
        )
        self.process = channel.process
        self._close = weakref.finalize(self, channel.close)
        self._device = self._in_time(lambda: Device(channel, artifact, timeout=timeout, start=timeout))

    def close(self) -> None:
        """End the machine."""
        self._close()

    def solve(self, inputs: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
        """The outputs for one problem after so many iterations, each of its port's shape."""
        return self._in_time(lambda: self._device.solve(inputs, iterations))

    def count(self, inputs: Sequence[np.ndarray]) -> Counts:
        """Instructions of each part, the call included, and the stack of one solve, as `Emulator.count` gives them."""
        steps = self._artifact.iterations
        begin, *iterate, end = self._in_time(lambda: self._device.profile(inputs, steps, 1)).counts[0].tolist()
        stack = self._in_time(lambda: self._device.stack(inputs, steps))
        assert stack is not None
        return Counts(begin, tuple(iterate), end, stack)

    def _in_time(self, use: Callable[[], T]) -> T:
        """What `use` gives; where the machine still runs and the time is over, the program did not end."""
        start = time.monotonic()
        _limit_processor_time(self.process.pid, 2 * self._timeout)
        try:
            return use()
        except DeviceError as error:
            if self.process.poll() is not None or time.monotonic() - start < self._timeout:
                raise
            raise DeviceError(
                self._name,
                f"the program had not finished after {self._timeout:.3g} s",
                f"at most {self._timeout:.3g} s for each request",
                "Give it longer by on='qemu?timeout=SECONDS' if the problem is this large; else the program hangs.",
            ) from error


def _limit_processor_time(process: int, seconds: float) -> None:
    """Let a process take so many more seconds of processor time, where the system can: if ours is killed while a
    program hangs, nobody else would end it."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        taken = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # in user mode and in the system
        _, most = resource.prlimit(process, resource.RLIMIT_CPU)
        resource.prlimit(process, resource.RLIMIT_CPU, (math.ceil(taken + seconds), most))


def _explain(name: str, status: int, words: str, symbol: str, target: Target, elf: Path) -> DeviceError:
    """The error for a machine that has ended with this status, after these words on its standard error."""
    fault = fault_of(words)
    if fault is None:
        found, do = ending_of(status, words), "See whether QEMU 7.2 or newer is installed."
    else:
        try:
            place = read_firmware(elf, symbol, target).locate
        except UnfoldcError:
            place = "{:#x}".format
        found, do = f"the program {fault.text(place)}", "Generated code should never do this: report it with the model."
    return DeviceError(name, found, "code and constants in flash, data and stack in RAM", do)
