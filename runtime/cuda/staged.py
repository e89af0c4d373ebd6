"""Arrays of this computer on their way to a GPU and back, for launches that take no arrays that lie there."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.memory import Staging, places
from unfoldc.runtime.engine_library import address


class Staged:
    """Memory on a GPU for `inputs` and for results of so many bytes: where each is, and a stream to work in."""

    def __init__(self, code: DeviceCode, staging: Staging, inputs: Sequence[int], results: Sequence[int]) -> None:
        self._driver, self._staging, self.stream = code.driver, staging, staging.stream
        self._starts, self._size_in = places(inputs)
        self._ends, self._size_out = places(results)
        self.inputs = [staging.inputs.device + start for start in self._starts]
        self.results = [staging.outputs.device + start for start in self._ends]
        self.idle = False

    def upload(self, arrays: Sequence[np.ndarray]) -> None:
        """Put the copy of the inputs into the stream: one, by way of pinned memory."""
        room = self._staging.inputs
        for array, start in zip(arrays, self._starts, strict=True):
            ctypes.memmove(room.host + start, address(array), array.nbytes)
        if self._size_in:
            self._driver("cuMemcpyHtoDAsync", room.device, room.host, self._size_in, self.stream)

    def download(self, arrays: Sequence[np.ndarray]) -> None:
        """Wait for the stream; the results, which one copy brings."""
        room = self._staging.outputs
        self._driver("cuMemcpyDtoHAsync", room.host, room.device, self._size_out, self.stream)
        self._driver("cuStreamSynchronize", self.stream, doing="solving")
        self.idle = True
        for array, start in zip(arrays, self._ends, strict=True):
            ctypes.memmove(address(array), room.host + start, array.nbytes)


@contextmanager
def staged(code: DeviceCode, inputs: Sequence[int], results: Sequence[int]) -> Iterator[Staged]:
    """Memory that is given back once nothing is under way in its stream; after a crash it is not used again.

    `inputs`, `results`: bytes of each. The context is current.
    """
    staging = code.memory.take(places(inputs)[1], places(results)[1])
    found = Staged(code, staging, inputs, results)
    try:
        yield found
    finally:
        if found.idle or code.driver.quietly("cuStreamSynchronize", staging.stream):
            code.memory.give(staging)
