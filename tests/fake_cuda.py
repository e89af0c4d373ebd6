"""A stand-in for NVIDIA's driver: `cuda.bindings.driver` as far as an engine uses it, on this computer's memory.

What a call does is recorded, and any call may be made to fail. Copies and launches happen at once, except in a stream
that is being captured. A kernel is a Python function of the launch.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class CUdevice_attribute(IntEnum):  # noqa: N801
    CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97


class CUfunction_attribute(IntEnum):  # noqa: N801
    CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1
    CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3
    CU_FUNC_ATTRIBUTE_NUM_REGS = 4
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


class CUstreamCaptureStatus(IntEnum):
    CU_STREAM_CAPTURE_STATUS_NONE = 0
    CU_STREAM_CAPTURE_STATUS_ACTIVE = 1


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class CUpointer_attribute(IntEnum):  # noqa: N801
    CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9


class Failed(Exception):
    """What a call answers in place of success."""


class Function(str):
    """A kernel's name, and the context that its module was loaded in."""

    context = 0


@dataclass
class Launch:
    """What a launch was given; `words`: the 64-bit words that the driver copies."""

    kernel: str
    blocks: int
    threads: int
    shared: int
    stream: int
    words: list[int]
    cooperative: bool


@dataclass
class FakeDriver:
    """The driver and its GPUs. `kernels`: what a kernel of a name does; `count_words`: how many parameters it has.

    `fail_at` is the number of the call, counted from now, that answers `failure`.
    """

    kernels: dict[str, Callable[[Launch], None]]
    count_words: int
    architecture: int = 90
    gpus: int = 1
    old: set[int] = field(default_factory=set)  # GPUs of compute capability 7.0
    multiprocessors: int = 4
    resident: int = 2
    most_shared: int = 227 * 1024
    fail_at: int = -1
    failure: CUresult = CUresult.CUDA_ERROR_OUT_OF_MEMORY
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    capturing: set[int] = field(default_factory=set)
    device_memory: dict[int, Any] = field(default_factory=dict)
    pinned: dict[int, Any] = field(default_factory=dict)
    others: dict[int, Any] = field(default_factory=dict)  # memory of other libraries
    ordinals: dict[int, int] = field(default_factory=dict)  # the GPU of an address, where it is not the first
    streams: set[int] = field(default_factory=set)
    events: dict[int, int] = field(default_factory=dict)
    modules: dict[int, int] = field(default_factory=dict)  # the context of each
    retained: int = 0
    _next: int = 1000
    _thread: threading.local = field(default_factory=threading.local)

    @property
    def current(self) -> int:
        """This thread's context."""
        return getattr(self._thread, "context", 0)

    @current.setter
    def current(self, context: int) -> None:
        self._thread.context = context

    CUresult = CUresult
    CUdevice_attribute = CUdevice_attribute
    CUfunction_attribute = CUfunction_attribute
    CUstreamCaptureStatus = CUstreamCaptureStatus
    CUstreamCaptureMode = CUstreamCaptureMode
    CUpointer_attribute = CUpointer_attribute

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not (name.startswith("cu") and name[2:3].isupper()):
            return found

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            self.fail_at -= 1
            if self.fail_at == -1:
                return (self.failure, *([None] * 3))
            try:
                value = found(*arguments)
            except Failed as failed:
                return (failed.args[0], *([None] * 3))
            return (CUresult.CUDA_SUCCESS, *(value if isinstance(value, tuple) else () if value is None else (value,)))

        return call

    def names(self) -> list[str]:
        """The names of the calls, in order."""
        return [call[0] for call in self.calls]

    def leaks(self) -> dict[str, int]:
        """What was not given back."""
        found = {
            "device memory": len(self.device_memory), "pinned memory": len(self.pinned), "streams": len(self.streams),
            "events": len(self.events), "modules": len(self.modules), "contexts": self.retained,
        }  # fmt: skip
        return {name: count for name, count in found.items() if count}

    def _handle(self) -> int:
        self._next += 1
        return self._next

    def _allocate(self, table: dict[int, Any], size: int) -> int:
        block = np.full(size + 256, 0xAA, np.uint8)  # never zeros: what is not written shows
        address = -(-block.ctypes.data // 256) * 256
        table[address] = block
        return address

    def _needs_context(self) -> None:
        assert self.current, "no context is current"

    def cuInit(self, flags: int) -> None:
        assert flags == 0

    def cuDriverGetVersion(self) -> int:
        return 13020

    def cuDeviceGetCount(self) -> int:
        return self.gpus

    def cuDeviceGet(self, ordinal: int) -> int:
        assert 0 <= ordinal < self.gpus
        return ordinal

    def cuDeviceGetName(self, length: int, device: int) -> bytes:
        return b"Fake GPU\0\0\0"[:length]

    def cuDeviceTotalMem(self, device: int) -> int:
        return 1 << 30

    def cuDeviceGetAttribute(self, attribute: int, device: int) -> int:
        architecture = 70 if device in self.old else self.architecture
        return {13: 1_000_000, 16: self.multiprocessors, 39: 2048, 75: architecture // 10, 76: architecture % 10,
                97: self.most_shared}[attribute]  # fmt: skip

    def cuDevicePrimaryCtxRetain(self, device: int) -> int:
        self.retained += 1
        return 7 + device

    def cuDevicePrimaryCtxRelease(self, device: int) -> None:
        self.retained -= 1

    def cuCtxGetCurrent(self) -> int:
        return self.current

    def cuCtxSetCurrent(self, context: int) -> None:
        self.current = int(context)

    def cuCtxSynchronize(self) -> None:
        self._needs_context()
        self._no_capture()

    def cuCtxRecordEvent(self, context: int, event: int) -> None:
        assert context == self.current and event in self.events
        self._no_capture()

    def _no_capture(self) -> None:
        if self.capturing:
            raise Failed(CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)

    def cuModuleLoadData(self, image: bytes) -> int:
        self._needs_context()
        handle = self._handle()
        self.modules[handle] = self.current
        return handle

    def cuModuleUnload(self, module: int) -> None:
        del self.modules[module]

    def cuModuleGetFunction(self, module: int, name: bytes) -> Function:
        function = Function(name.decode())
        function.context = self.modules[module]
        return function

    def cuFuncSetAttribute(self, function: str, attribute: int, value: int) -> None:
        assert attribute == CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

    def cuFuncGetAttribute(self, attribute: int, function: str) -> int:
        return {1: 16, 3: 24, 4: 40, 8: 0}[attribute]

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, function: str, threads: int, shared: int) -> int:
        return self.resident

    def cuMemAlloc(self, size: int) -> int:
        self._needs_context()
        if getattr(self._thread, "mode", 0) != CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED:
            self._no_capture()
        return self._allocate(self.device_memory, size)

    def cuMemFree(self, address: int) -> None:
        del self.device_memory[address]

    def cuMemHostAlloc(self, size: int, flags: int) -> int:
        return self._allocate(self.pinned, size)

    def cuMemFreeHost(self, address: int) -> None:
        del self.pinned[address]

    def cuMemcpyHtoDAsync(self, to: int, source: int, size: int, stream: int) -> None:
        self._needs_context()
        ctypes.memmove(to, source, size)

    def cuMemcpyDtoHAsync(self, to: int, source: int, size: int, stream: int) -> None:
        self._needs_context()
        ctypes.memmove(to, source, size)

    def cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> None:
        assert stream not in self.capturing
        ctypes.memset(address, value, size)

    def cuLaunchKernel(self, *arguments: Any) -> None:
        assert arguments[-1] == 0
        self._launch(False, *arguments[:-1])

    def cuLaunchCooperativeKernel(self, *arguments: Any) -> None:
        self._launch(True, *arguments)

    def _launch(
        self, cooperative: bool, function: Function, x: int, y: int, z: int, tx: int, ty: int, tz: int, shared: int,
        stream: Any, table: int,
    ) -> None:  # fmt: skip
        if self.current != function.context:
            raise Failed(CUresult.CUDA_ERROR_INVALID_HANDLE if self.current else CUresult.CUDA_ERROR_INVALID_CONTEXT)
        assert (y, z, ty, tz) == (1, 1, 1, 1)
        addresses = (ctypes.c_uint64 * self.count_words).from_address(table)
        words = [ctypes.c_uint64.from_address(address).value for address in addresses]
        launch = Launch(function, x, tx, shared, int(stream), words, cooperative)
        self.launches.append(launch)
        if int(stream) not in self.capturing:
            self.kernels[function](launch)

    def cuStreamCreate(self, flags: int) -> int:
        self.streams.add(handle := self._handle())
        return handle

    def cuStreamDestroy(self, stream: int) -> None:
        self.streams.remove(stream)

    def cuStreamSynchronize(self, stream: int) -> None:
        assert stream not in self.capturing, "a captured stream cannot be waited for"

    def cuStreamIsCapturing(self, stream: int) -> Any:
        return CUstreamCaptureStatus(int(stream in self.capturing))

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        assert event in self.events

    def cuThreadExchangeStreamCaptureMode(self, mode: int) -> Any:
        before = getattr(self._thread, "mode", CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
        self._thread.mode = mode
        return before

    def cuEventCreate(self, flags: int) -> int:
        self._needs_context()
        handle = self._handle()
        self.events[handle] = 0
        return handle

    def cuEventDestroy(self, event: int) -> None:
        del self.events[event]

    def cuEventRecord(self, event: int, stream: int) -> None:
        self.events[event] = len(self.calls)

    def cuEventSynchronize(self, event: int) -> None:
        assert event in self.events

    def cuEventElapsedTime(self, start: int, end: int) -> float:
        return 1e-3 * (self.events[end] - self.events[start])  # milliseconds

    def cuPointerGetAttribute(self, attribute: int, address: int) -> int:
        self._needs_context()
        return self.ordinals.get(address, 0)
