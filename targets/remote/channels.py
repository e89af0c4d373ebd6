"""Streams of bytes to a device, with a time limit on every transfer."""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from collections.abc import Sequence
from typing import Protocol

from unfoldc.errors import DeviceError

CHUNK = 1 << 16  # bytes that are moved at a time


class Channel(Protocol):
    """Carries bytes to one device and back. `name` is for messages."""

    name: str

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of `data` before `time.monotonic()` reaches `deadline`; DeviceError otherwise."""
        ...

    def read(self, deadline: float) -> bytes:
        """What has come, at least a byte; empty at the deadline. DeviceError where nothing can come any more."""
        ...

    def close(self) -> None:
        """Give everything back; may be called again."""
        ...


def device_error(name: str, found: str, do: str, allowed: str = "a device that runs unfoldc's runner") -> DeviceError:
    """The error about the device at `name`."""
    return DeviceError(where=name, found=found, allowed=allowed, do=do)


class DescriptorChannel:
    """Bytes through two file descriptors, which it makes non-blocking and owns."""

    def __init__(self, name: str, reading: int, writing: int) -> None:
        self.name = name
        self._in, self._out = reading, writing
        self._open = True
        for descriptor in (reading, writing):
            os.set_blocking(descriptor, False)

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of `data`; what comes meanwhile waits in the system's buffers."""
        rest = memoryview(data)
        while rest:
            self._check_open()
            if not ready([self._out], select.POLLOUT, deadline):
                raise device_error(
                    self.name,
                    f"it took {len(data) - len(rest)} of {len(data)} bytes and no more in time",
                    "See whether the device hangs; ?timeout=SECONDS gives it longer.",
                )
            try:
                rest = rest[os.write(self._out, rest[:CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self.gone(error.strerror or "") from None

    def read(self, deadline: float) -> bytes:
        """What has come, at least a byte; empty at the deadline."""
        self._check_open()
        while ready([self._in], select.POLLIN, deadline):
            try:
                data = os.read(self._in, CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self.gone(error.strerror or "") from None
            if not data:
                raise self.gone("")
            return data
        return b""

    def gone(self, reason: str) -> DeviceError:
        """The error for a stream that has ended."""
        said = f" ({reason})" if reason else ""
        return device_error(self.name, f"the connection was closed{said}", "Connect the device again.")

    def close(self) -> None:
        """Close the descriptors."""
        if self._open:
            self._open = False
            for descriptor in {self._in, self._out}:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _check_open(self) -> None:
        if not self._open:
            raise device_error(self.name, "the connection was closed before", "Connect again.")


def ready(descriptors: Sequence[int], event: int, deadline: float) -> list[int]:
    """Those that can be read or written without waiting, or that have failed; none at the deadline."""
    waiting = select.poll()  # `select.select` takes no descriptor above 1023
    for descriptor in descriptors:
        waiting.register(descriptor, event)
    left = max(0.0, deadline - time.monotonic())
    return [descriptor for descriptor, _ in waiting.poll(math.ceil(1000 * left))]
