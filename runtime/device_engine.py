"""What engines share that solve on one device behind a runner: it is opened when needed and given up when it fails."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.one_by_one import problem_of, solve_one_by_one


class SolvingDevice(Protocol):
    """A device with the solver on it; not for several threads at once."""

    def solve(self, inputs: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
        """The outputs for one problem, each of its port's shape."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


D = TypeVar("D", bound=SolvingDevice)
T = TypeVar("T")


class DeviceEngine(Generic[D]):
    """Solves one problem after the other on the device that `open_device` gives, which is asked at the first call.

    After a `DeviceError` the device is given up; the next call opens it again. Several threads may call; they take
    turns.
    """

    def __init__(self, artifact: Artifact, open_device: Callable[[], D]) -> None:
        self._artifact, self._open = artifact, open_device
        self._lock = threading.RLock()
        self._devices: list[D] = []  # at most one; a list, which the finaliser can hold without holding us
        weakref.finalize(self, _close, self._devices)

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        solve_one_by_one(self._artifact, lambda problem: self._solve_one(problem, iterations), inputs, outputs, batch)

    def close(self) -> None:
        """Give the device back; the next call opens it again."""
        with self._lock:
            _close(self._devices)

    def _solve_one(self, problem: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
        return self._with_device(lambda device: device.solve(problem, iterations))

    def _problem(self, arrays: Sequence[np.ndarray], item: int) -> list[np.ndarray]:
        """The inputs of one problem."""
        return problem_of(self._artifact, arrays, item)

    def _with_device(self, use: Callable[[D], T]) -> T:
        with self._lock:
            if not self._devices:
                self._devices.append(self._open())
            try:
                return use(self._devices[0])
            except BaseException as error:
                # Whatever it was, Ctrl-C too: an answer may still be on its way, so the device is of no more use.
                if isinstance(error, DeviceError) or not isinstance(error, Exception):
                    _close(self._devices)
                raise


def _close(devices: list[D]) -> None:
    while devices:
        devices.pop().close()
