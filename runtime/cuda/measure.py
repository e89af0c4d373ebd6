"""Measures a solver on a GPU: launches by the GPU's clock, parts by the stamps within, what the kernel takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.cuda.kernel import Kernel
from unfoldc.runtime.cuda.listed import ListKernel
from unfoldc.runtime.cuda.memory import places
from unfoldc.runtime.cuda.stamps import block_means
from unfoldc.runtime.profile import GpuFigures, Row
from unfoldc.targets.cuda.report import kernel_report

_WARM_UP = 10
_MOST_STAMPED = 200
_AT_ONCE = 64
Arrays = list[np.ndarray]


def measure_gpu(
    artifact: Artifact, engine: CudaEngine, inputs: Arrays, batch: int, repeats: int, seconds: float
) -> dict[str, Any]:
    """The figures of a `Profile`: at most `repeats` launches in about `seconds`, arrays in the GPU's memory."""
    code = engine.code()
    with code.driver.within(code.context):
        run = _Run(artifact, engine, code, inputs, batch)
        try:
            plain = run.timed(repeats, seconds / 2)
            stamped, parts = run.stamped(min(repeats, _MOST_STAMPED), seconds / 2)
            dispatch = run.dispatch(min(repeats, _MOST_STAMPED))
        finally:
            run.close()
    p50, p99 = (float(np.percentile(plain, q)) for q in (50, 99))
    middle, high = np.percentile(parts, (50, 99), axis=0)
    scale = p50 / max(float(middle.sum()), 1.0)
    rows = [Row(float(a * scale), float(b * scale)) for a, b in zip(middle, high, strict=True)]
    stamps = float(np.median(stamped)) - p50
    return {
        "rows": rows,
        "repeats": len(plain),
        "seconds_p50": p50,
        "seconds_p99": p99,
        "dispatch_seconds": dispatch,
        "stamp_seconds": stamps / (artifact.iterations + 2),
        "stamp_overhead": stamps / p50,
        "gpu": figures(code, code.kernel(batch), batch, artifact.iterations),
    }


def figures(code: DeviceCode, kernel: Kernel, batch: int, iterations: int) -> GpuFigures:
    """What a kernel takes, from the driver and from the assembler's report."""
    listed = kernel if isinstance(kernel, ListKernel) else None
    driver, form = code.driver, kernel.form
    attribute = driver.api.CUfunction_attribute
    registers, local, fixed = (
        int(driver("cuFuncGetAttribute", name, kernel.function))
        for name in (
            attribute.CU_FUNC_ATTRIBUTE_NUM_REGS,
            attribute.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
            attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
        )
    )
    report = kernel_report(code.report.get(kernel.name, {}))
    return GpuFigures(
        device=code.name,
        architecture=f"sm_{code.architecture}",
        built_for=f"sm_{code.built_for}",
        form=form.name,
        blocks=listed.main_blocks() if listed else kernel.blocks(batch),
        threads=form.threads,
        problems=1 if listed else form.problems,
        registers=registers,
        local_bytes=local,
        spill_stores=report.spill_stores,
        spill_loads=report.spill_loads,
        shared_bytes=fixed + form.shared_bytes,
        resident_blocks=kernel.per_multiprocessor,
        occupancy=kernel.per_multiprocessor * form.threads / code.threads,
        multiprocessors=code.multiprocessors,
        launches=len(list(listed.launches.sequence(iterations))) if listed else 0,
    )


class _Run:
    """Launches of one batch, whose arrays lie in the GPU's memory."""

    def __init__(self, artifact: Artifact, engine: CudaEngine, code: DeviceCode, inputs: Arrays, batch: int) -> None:
        self._code, self._driver, self._batch, self._steps = code, code.driver, batch, artifact.iterations
        self._plain, self._stamped = code.kernel(batch), code.kernel(batch, stamped=True)
        self._blocks = self._plain.blocks(batch), self._stamped.blocks(batch)
        self._ticks = np.zeros((self._blocks[1], engine.facts.stamps), np.int64)
        outputs = [(batch if p.batched else 1) * p.size * np.dtype(p.dtype).itemsize for p in artifact.outputs]
        starts_in, size_in = places([a.nbytes for a in inputs])
        starts_out, size_out = places([*outputs, self._ticks.nbytes])
        self._staging = code.memory.take(size_in, size_out)
        self._stream = self._staging.stream
        self._events: list[Any] = []
        try:
            for array, start in zip(inputs, starts_in, strict=True):
                address, size = self._staging.device_inputs + start, array.nbytes
                if size:
                    self._driver("cuMemcpyHtoDAsync", address, array.ctypes.data, size, self._stream)
            given = [self._staging.device_inputs + start for start in starts_in]
            made = [self._staging.device_outputs + start for start in starts_out]
            self._at, ticks = made[-1], made[-1]
            self._words = [
                code.arguments(
                    kernel, given, made[:-1], batch, self._steps, code.workspace(kernel, self._stream), room
                )
                for kernel, room in ((self._plain, 0), (self._stamped, ticks))
            ]  # fmt: skip
            for _ in range(2 * _AT_ONCE):
                self._events.append(self._driver("cuEventCreate", 0))
            for _ in range(_WARM_UP):
                self._launch()
                self._launch(stamped=True)
            self._wait()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back."""
        idle = self._driver.quietly("cuStreamSynchronize", self._stream)
        while self._events:
            self._driver.quietly("cuEventDestroy", self._events.pop())
        if idle:
            self._code.memory.give(self._staging)

    def timed(self, repeats: int, seconds: float) -> np.ndarray:
        """Seconds of each launch, between events before and behind it."""
        found: list[float] = []
        finish = time.perf_counter() + seconds
        while len(found) < repeats and (not found or time.perf_counter() < finish):
            count = min(_AT_ONCE, repeats - len(found))
            for i in range(count):
                self._between(i, self._launch)
            self._wait()
            found += [self._elapsed(i) for i in range(count)]
        return np.array(found)

    def stamped(self, repeats: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of each stamped launch, and nanoseconds of its parts `(repeats, K + 2)`."""
        times: list[float] = []
        parts = []
        units = 1 if self._stamped.form.cooperative else -(-self._batch // self._stamped.form.problems)
        finish = time.perf_counter() + seconds
        while len(times) < repeats and (not times or time.perf_counter() < finish):
            self._driver("cuMemsetD8Async", self._at, 0, self._ticks.nbytes, self._stream)
            self._between(0, lambda: self._launch(stamped=True))
            self._driver("cuMemcpyDtoHAsync", self._ticks.ctypes.data, self._at, self._ticks.nbytes, self._stream)
            self._wait()
            times.append(self._elapsed(0))
            parts.append(block_means(self._ticks, self._steps, units))
        return np.array(times), np.array(parts)

    def dispatch(self, repeats: int) -> float:
        """Seconds that putting a launch into the stream takes this computer."""
        found = []
        for _ in range(repeats):
            start = time.perf_counter()
            self._launch()
            found.append(time.perf_counter() - start)
            self._wait()
        return float(np.median(found))

    def _launch(self, stamped: bool = False) -> None:
        kernel: Kernel = self._stamped if stamped else self._plain
        self._code.launch(kernel, self._words[stamped], self._blocks[stamped], self._stream)

    def _between(self, i: int, launch: Callable[[], None]) -> None:
        self._driver("cuEventRecord", self._events[2 * i], self._stream)
        launch()
        self._driver("cuEventRecord", self._events[2 * i + 1], self._stream)

    def _elapsed(self, i: int) -> float:
        return 1e-3 * float(self._driver("cuEventElapsedTime", self._events[2 * i], self._events[2 * i + 1]))

    def _wait(self) -> None:
        self._driver("cuStreamSynchronize", self._stream, doing="measuring")
