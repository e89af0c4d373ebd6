"""Measures a solver on a GPU: launches and their parts by the GPU's clock, and what the kernel takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.cuda.kernel import Kernel
from unfoldc.runtime.cuda.listed import ListKernel
from unfoldc.runtime.cuda.staged import Staged, staged
from unfoldc.runtime.cuda.stamps import Stopwatch, stopwatch
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
    kernel = code.kernel(batch)
    sizes = [(batch if p.batched else 1) * p.size * np.dtype(p.dtype).itemsize for p in artifact.outputs]
    with ExitStack() as stack:
        stack.enter_context(code.driver.within(code.context))
        watch = stack.enter_context(stopwatch(code, kernel, batch))
        events = stack.enter_context(code.driver.events(2 * _AT_ONCE))
        given = [array.nbytes for array in inputs]
        memory = stack.enter_context(staged(code, given, [*sizes, watch.stamps.nbytes]))
        run = _Run(code, kernel, batch, memory, watch, events, artifact.iterations)
        run.warm_up(inputs)
        plain = run.timed(repeats, seconds / 2)
        stamped, parts = run.stamped(min(repeats, _MOST_STAMPED), seconds / 2)
        dispatch = run.dispatch(min(repeats, _MOST_STAMPED))
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
        "gpu": figures(code, kernel, batch, artifact.iterations),
    }


def figures(code: DeviceCode, kernel: Kernel, batch: int, iterations: int) -> GpuFigures:
    """What a kernel takes, from the driver and from the assembler's report."""
    listed = kernel if isinstance(kernel, ListKernel) else None
    driver, form = code.driver, kernel.form
    attribute = driver.api.CUfunction_attribute
    registers, local, fixed = (
        int(driver("cuFuncGetAttribute", name, kernel.function)) if kernel.function is not None else 0
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
        blocks=kernel.blocks(batch),
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
        launches=sum(len(part) for _, part in listed.launches.parts(iterations)) if listed else 0,
    )


class _Run:
    """Launches of one batch, whose arrays lie in the GPU's memory. `events`: two for each launch that is timed."""

    def __init__(
        self, code: DeviceCode, kernel: Kernel, batch: int, memory: Staged, watch: Stopwatch, events: list[Any],
        iterations: int,
    ) -> None:  # fmt: skip
        self._code, self._driver, self._kernel = code, code.driver, kernel
        self._memory, self._stream, self._watch, self._events = memory, memory.stream, watch, events
        self._blocks, self._steps = kernel.blocks(batch), iterations
        *made, self._room = memory.results
        workspace, told = code.workspace(kernel, self._stream), watch.clear(self._room, self._stream)
        self._words = [
            code.arguments(kernel, memory.inputs, made, batch, iterations, workspace, ticks) for ticks in (0, told)
        ]

    def warm_up(self, inputs: Arrays) -> None:
        """Bring the inputs there, and the GPU up to speed."""
        self._memory.upload(inputs)
        for _ in range(_WARM_UP):
            self._launch()
            self._launch(stamped=True)
        self._wait()

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
        watch, driver = self._watch, self._driver
        finish = time.perf_counter() + seconds
        while len(times) < repeats and (not times or time.perf_counter() < finish):
            watch.clear(self._room, self._stream)
            self._between(0, lambda: self._launch(stamped=True))
            if watch.stamps.size:
                driver("cuMemcpyDtoHAsync", watch.stamps.ctypes.data, self._room, watch.stamps.nbytes, self._stream)
            self._wait()
            times.append(self._elapsed(0))
            parts.append(watch.nanoseconds(self._steps))
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
        marks = self._watch.marks if stamped else ()
        self._code.launch(self._kernel, self._words[stamped], self._blocks, self._stream, marks)

    def _between(self, i: int, launch: Callable[[], None]) -> None:
        self._driver("cuEventRecord", self._events[2 * i], self._stream)
        launch()
        self._driver("cuEventRecord", self._events[2 * i + 1], self._stream)

    def _elapsed(self, i: int) -> float:
        return 1e-3 * float(self._driver("cuEventElapsedTime", self._events[2 * i], self._events[2 * i + 1]))

    def _wait(self) -> None:
        self._driver("cuStreamSynchronize", self._stream, doing="measuring")
