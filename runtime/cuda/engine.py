"""Runs a solver on an NVIDIA GPU: all iterations of a batch of problems in one launch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from unfoldc.errors import InputError, UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.launch_facts import launch_facts
from unfoldc.runtime.cuda.staged import staged
from unfoldc.runtime.cuda.stamps import stopwatch

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

    def driver(self) -> Driver:
        """NVIDIA's driver, opened if it is not yet."""
        self._driver = self._driver or Driver()
        return self._driver

    def code(self, ordinal: int = 0) -> DeviceCode:
        """The solver on one GPU, loaded if it is not yet."""
        found = self._codes.get(ordinal)
        if found is None:
            with self._lock:
                found = self._codes.get(ordinal)
                if found is None:
                    found = DeviceCode(self.driver(), ordinal, self.artifact, self.facts, self._report)
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
        kernel = code.kernel(batch)
        with ExitStack() as stack:
            stack.enter_context(code.driver.within(code.context))
            watch = stack.enter_context(stopwatch(code, kernel, batch)) if ticks is not None else None
            written = [*outputs, *([watch.stamps] if watch else [])]
            memory = stack.enter_context(staged(code, [a.nbytes for a in inputs], [a.nbytes for a in written]))
            stream, results = memory.stream, memory.results
            memory.upload(inputs)
            room = watch.clear(results[-1], stream) if watch else 0
            words = code.arguments(
                kernel, memory.inputs, results[: len(outputs)], batch, iterations, code.workspace(kernel, stream), room
            )
            code.launch(kernel, words, kernel.blocks(batch), stream, watch.marks if watch else ())
            memory.download(written)
            if watch and ticks is not None:
                ticks += np.ceil(watch.nanoseconds(iterations)).astype(ticks.dtype)


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
