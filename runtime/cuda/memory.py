"""Memory on a GPU and pinned memory beside it, kept between calls and given back at the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unfoldc.runtime.cuda.driver import Driver

_ALIGNMENT = 256


class Memory:
    """What was allocated on one GPU; the context is current in every call."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sizes: dict[int, int] = {}
        self._pinned: set[int] = set()
        self.streams: list[Any] = []
        self._staging: list[Staging] = []
        self._lent: dict[int, list[int]] = {}  # bytes -> addresses that were lent and came back
        self._lock = threading.Lock()

    def allocate(self, size: int, what: str) -> int:
        """The address of `size` bytes on the GPU; TargetError where there is no room for `what`."""
        address = int(self._driver("cuMemAlloc", max(size, 1), doing=f"{size} bytes for {what}"))
        self._sizes[address] = size
        return address

    def size(self, address: int) -> int:
        """The bytes that were allocated at an address."""
        return self._sizes[address]

    def free(self, address: int) -> None:
        """Give memory on the GPU back; nothing for an address that is no longer allocated."""
        if self._sizes.pop(address, None) is not None:
            self._driver.quietly("cuMemFree", address)

    def lend(self, size: int, fresh: bool = False) -> tuple[int, bool]:
        """The address of `size` bytes for an array that the caller keeps; whether they were lent before.

        Then the GPU may still be reading them for whoever had them; `fresh` ones never were.
        """
        size = -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        try:
            return self._lent[0 if fresh else size].pop(), True
        except (KeyError, IndexError):
            return self.allocate(size, "an array"), False

    def give_back(self, address: int) -> None:
        """Take lent memory back."""
        if address in self._sizes:
            self._lent.setdefault(self._sizes[address], []).append(address)

    def pin(self, size: int, what: str) -> int:
        """The address of `size` bytes of this computer's memory that the GPU reads and writes by itself."""
        address = int(self._driver("cuMemHostAlloc", max(size, 1), 0, doing=f"{size} pinned bytes for {what}"))
        self._pinned.add(address)
        return address

    def unpin(self, address: int) -> None:
        """Give pinned memory back."""
        if address in self._pinned:
            self._pinned.discard(address)
            self._driver.quietly("cuMemFreeHost", address)

    def stream(self) -> Any:
        """A new stream, which waits for no other."""
        stream = self._driver("cuStreamCreate", 1)
        self.streams.append(stream)
        return stream

    def take(self, inputs: int, outputs: int) -> Staging:
        """Staging memory for so many bytes: one that was given back, grown where need be."""
        with self._lock:
            fits = [s for s in self._staging if s.inputs.size >= inputs and s.outputs.size >= outputs]
            staging = min(fits, key=lambda s: s.inputs.size + s.outputs.size) if fits else None
            staging = staging or (self._staging[-1] if self._staging else None)
            if staging is not None:
                self._staging.remove(staging)
        staging = staging or Staging(self.stream())
        try:
            self._grow(staging.inputs, inputs, "the inputs")
            self._grow(staging.outputs, outputs, "the outputs")
        except BaseException:
            self.give(staging)
            raise
        return staging

    def give(self, staging: Staging) -> None:
        """Put staging memory back, whose stream is idle."""
        with self._lock:
            self._staging.append(staging)

    def close(self) -> None:
        """Give everything back that is still allocated."""
        for stream in self.streams:
            self._driver.quietly("cuStreamSynchronize", stream)
        for address in list(self._sizes):
            self.free(address)
        for address in list(self._pinned):
            self.unpin(address)
        while self.streams:
            self._driver.quietly("cuStreamDestroy", self.streams.pop())
        self._staging.clear()
        self._lent.clear()

    def _grow(self, room: Room, size: int, what: str) -> None:
        if size > room.size:
            self.unpin(room.host)
            self.free(room.device)
            room.size = 0
            room.host, room.device = self.pin(size, what), self.allocate(size, what)
            room.size = size


@dataclass
class Room:
    """So many bytes at `host`, pinned memory of this computer, and as many at `device`."""

    size: int = 0
    host: int = 0
    device: int = 0


@dataclass(eq=False)
class Staging:
    """Memory through which a call's arrays travel, and a stream of its own.

    All inputs lie in one block and all outputs in another, so that each way is one copy.
    """

    stream: Any
    inputs: Room = field(default_factory=Room)
    outputs: Room = field(default_factory=Room)


def places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where blocks of these sizes begin, each aligned for any access, and the bytes of them all."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return starts, end
