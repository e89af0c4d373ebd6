"""Runs a solver on an NVIDIA GPU: all iterations of a batch of problems in one launch."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unfoldc.errors import InputError, UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.launch_facts import launch_facts
from unfoldc.runtime.cuda.memory import Staging, places
from unfoldc.runtime.cuda.stamps import block_means
from unfoldc.runtime.engine_library import address

_MOST = 2**31 - 1


class CudaEngine:
    """The kernels of a build, loaded on a GPU at the first call there. Several threads may call at once.

    NumPy arrays are copied to the first GPU and back; arrays that lie on a GPU are for `unfoldc.runtime.cuda`. `driver`
    stands in for NVIDIA's. Nothing is opened before the first call, so that a build can be made without a GPU.
    """

    gpu = True

    def __init__(self, artifact: Artifact, report: Path, driver: Driver | None = None) -> None:
        self.artifact, self.facts = artifact, launch_facts(artifact)
        self._report, self._driver = report, driver
        self._codes: dict[int, DeviceCode] = {}
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _close, self._codes)
        self._finalizer.atexit = False  # the driver is taken down by then

    def code(self, ordinal: int = 0) -> DeviceCode:
        """The solver on one GPU, loaded if it is not yet."""
        found = self._codes.get(ordinal)
        if found is None:
            with self._lock:
                found = self._codes.get(ordinal)
                if found is None:
                    self._driver = self._driver or Driver()
                    found = DeviceCode(self._driver, ordinal, self.artifact, self.facts, self._report)
                    found.owner = weakref.ref(self)
                    self._codes[ordinal] = found
        return found

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        if batch:
            self._through(self.code(), inputs, outputs, batch, iterations, None)

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add nanoseconds of begin, of each iteration and of end, the mean over all blocks."""
        if batch:
            self._through(self.code(), inputs, outputs, batch, iterations, ticks)

    def close(self) -> None:
        """Give back what lies on GPUs; the next call loads it again."""
        with self._lock:
            _close(self._codes)

    def _through(
        self,
        code: DeviceCode,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray | None,
    ) -> None:
        """By way of pinned memory: one copy there, the launch, one copy back."""
        check_batch(batch)
        kernel = code.kernel(batch, ticks is not None)
        blocks = kernel.blocks(batch)
        stamps = np.zeros((blocks, self.facts.stamps) if ticks is not None else (0,), np.int64)
        written = [*outputs, *([stamps] if ticks is not None else [])]
        starts_in, size_in = places([a.nbytes for a in inputs])
        starts_out, size_out = places([a.nbytes for a in written])
        driver = code.driver
        with driver.within(code.context):
            staging = code.memory.take(size_in, size_out)
            idle = False
            try:
                for array, start in zip(inputs, starts_in, strict=True):
                    ctypes.memmove(staging.host_inputs + start, address(array), array.nbytes)
                stream = staging.stream
                if size_in:
                    driver("cuMemcpyHtoDAsync", staging.device_inputs, staging.host_inputs, size_in, stream)
                places_out = [staging.device_outputs + start for start in starts_out]
                if ticks is not None:  # what a block without problems leaves is told from stamps
                    driver("cuMemsetD8Async", places_out[-1], 0, stamps.nbytes, stream)
                words = code.arguments(
                    kernel, [staging.device_inputs + start for start in starts_in], places_out[: len(outputs)],
                    batch, iterations, code.workspace(kernel, stream), places_out[-1] if ticks is not None else 0,
                )  # fmt: skip
                code.launch(kernel, words, blocks, stream)
                driver("cuMemcpyDtoHAsync", staging.host_outputs, staging.device_outputs, size_out, stream)
                driver("cuStreamSynchronize", stream, doing="solving")
                idle = True
                for array, start in zip(written, starts_out, strict=True):
                    ctypes.memmove(address(array), staging.host_outputs + start, array.nbytes)
            finally:
                self._give_back(code, staging, idle)
        if ticks is not None:
            units = 1 if kernel.form.cooperative else -(-batch // kernel.form.problems)
            means = block_means(stamps, self.artifact.iterations, units) * code.stamp_nanoseconds(kernel)
            ticks += np.ceil(means).astype(ticks.dtype)

    def _give_back(self, code: DeviceCode, staging: Staging, idle: bool) -> None:
        """Staging memory, once nothing is under way in its stream; after a crash it is not used again."""
        if idle or code.driver.quietly("cuStreamSynchronize", staging.stream):
            code.memory.give(staging)


def check_batch(batch: int) -> None:
    """Raises InputError for more problems than a kernel counts."""
    if batch > _MOST:
        raise InputError("batch", str(batch), f"up to {_MOST}", "Solve the problems in several calls.")


def _close(codes: dict[int, DeviceCode]) -> None:
    while codes:
        _, code = codes.popitem()
        try:
            code.close()
        except (UnfoldcError, OSError):
            continue
