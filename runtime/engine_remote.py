"""Runs a solver on a connected device: a board, another computer, a farm. `unfoldc.targets.remote` does the talking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unfoldc.errors import InputError
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.device_engine import DeviceEngine
from unfoldc.runtime.remote_runners import Runners
from unfoldc.targets.boards import find_target
from unfoldc.targets.description import Target
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.connect import Job, connect, needed_runner
from unfoldc.targets.remote.device import Device, Ticks
from unfoldc.targets.remote.protocol import Hello
from unfoldc.targets.remote.ssh import check_ssh

_BACKENDS = ("c", "tvm")


class RemoteEngine(DeviceEngine[Device]):
    """The device at the address `on`. It is connected at the first call and solves one problem after the other.

    The runner is built at once where the address needs one, for ssh only if that connects, and kept in the build's
    folder. After a `DeviceError` the connection is given up; the next call makes a new one. Several threads may call;
    they take turns. `flash_bytes`, `ram_bytes` and `stack_bound_bytes` are those of the solver's own firmware (None:
    there is an operating system); what is on a board may be the work of another compiler.
    """

    def __init__(self, build: Build, on: str, progress: Callable[[str], None] | None = None) -> None:
        if build.artifact.backend not in _BACKENDS:
            raise InputError(
                f"on {on}",
                f"the back end {build.artifact.backend}",
                " or ".join(_BACKENDS),
                "Compile with backend c or tvm: others cannot leave this computer.",
            )
        self.on = on
        address = parse_address(on)
        target, say = find_target(build.target), progress or (lambda _: None)
        self.board_hz = target.clock_hz
        self.flash_bytes, self.ram_bytes, self.stack_bound_bytes = _sizes(build, target)
        self._runners = Runners(build, say)
        job = Job(build.artifact, target, self._runners, say)
        super().__init__(build.artifact, lambda: connect(address, job))
        kind = needed_runner(address, target)
        if kind is not None:
            cpu = address.options.get("cpu", "")
            if address.scheme == "ssh" and not self._runners.is_built(kind, cpu):
                check_ssh(address, say)
            job.build(kind, cpu)

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add the device's counts for begin, each iteration and end to the K + 2 items of `ticks`."""
        self.solve(inputs, outputs, batch, iterations)
        for item in range(batch):
            found = self.counts(self._problem(inputs, item), iterations, 1)
            ticks += found.counts[0].astype(ticks.dtype)

    def counts(
        self, problem: Sequence[np.ndarray], iterations: int, repeats: int, seconds: float = 30.0, warm_up: int = 0
    ) -> Ticks:
        """What the device's clock counts in each repetition for one problem; see `Device.profile`."""

        def measure(device: Device) -> Ticks:
            if warm_up:
                device.profile(problem, iterations, warm_up)
            return device.profile(problem, iterations, repeats, seconds)

        found = self._with_device(measure)
        if found.failure is not None:
            self.close()
        return found

    def stack_bytes(self, problem: Sequence[np.ndarray], iterations: int) -> int | None:
        """Bytes of stack that a solve takes there; None where the runner cannot tell."""
        return self._with_device(lambda device: device.stack(problem, iterations))

    @property
    def programs(self) -> set[Path]:
        """The runners that were built for this device."""
        return self._runners.given

    @property
    def hello(self) -> Hello:
        """What the device says of itself."""
        return self._with_device(lambda device: device.hello)


def _sizes(build: Build, target: Target) -> tuple[int | None, int | None, int | None]:
    if build.kind != "emulated" or target.core is None or target.core.linux or not build.product:
        return None, None, None
    from unfoldc.targets.firmware_file import read_firmware

    firmware = read_firmware(build.folder / build.product, build.artifact.symbol, target)
    return firmware.flash_bytes, firmware.ram_bytes, firmware.stack_bound_bytes
