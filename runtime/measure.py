"""Measures a compiled solver part by part; `unfoldc.runtime.profile` says what the figures mean."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.backends import has_stamps
from unfoldc.runtime.convergence import errors_by_iteration, new_outputs
from unfoldc.runtime.engine import CountingEngine, Engine
from unfoldc.runtime.profile import IterationRow, Profile, Row
from unfoldc.targets.boards import find_target

if TYPE_CHECKING:
    from unfoldc.runtime.artifact_folder import Build
    from unfoldc.runtime.cuda.engine import CudaEngine
    from unfoldc.runtime.engine_remote import RemoteEngine

_WARM_UP = 3
Arrays = list[np.ndarray]


def measure(
    build: Build, engine: Engine, inputs: Arrays, batch: int, *, repeats: int, truth: Any, seconds: float
) -> Profile:
    """Profile one solver on these arrays, which fit its ports.

    Raises InputError for an empty batch, fewer than one repetition, and a truth that does not fit the answer.
    """
    if repeats < 1 or batch < 1:
        name, found = ("repeats", repeats) if repeats < 1 else ("batch", batch)
        raise InputError(name, str(found), "1 or more", "There is nothing to measure otherwise.")
    artifact = build.artifact
    remote, emulated = hasattr(engine, "counts"), hasattr(engine, "count")
    on_gpu = getattr(engine, "gpu", False)
    errors, error_of = errors_by_iteration(artifact, engine, inputs, batch, truth, first_only=remote or emulated)
    if remote:
        from unfoldc.runtime.estimates import with_energy
        from unfoldc.runtime.measure_remote import measure_remote

        device = cast("RemoteEngine", engine)
        parts = measure_remote(artifact, device, inputs, repeats, seconds)
        parts = with_energy(parts, find_target(build.target), device.on)
    elif emulated:
        parts = _count(cast(CountingEngine, engine), inputs, build.target)
    elif on_gpu:
        from unfoldc.runtime.cuda.measure import measure_gpu

        parts = measure_gpu(artifact, cast("CudaEngine", engine), inputs, batch, repeats, seconds)
    elif getattr(engine, "simulated", False):  # how long Python takes for it says nothing of a GPU
        parts = {"rows": [Row()] * (artifact.iterations + 2), "repeats": 0, "simulated": True}
    else:
        parts = _time(artifact, engine, inputs, batch, repeats, seconds)
    rows = parts.pop("rows")
    return Profile(
        backend=artifact.backend,
        target=build.target,
        iterations=[
            IterationRow(**{**vars(row), "error": error}, k=k)
            for k, (row, error) in enumerate(zip(rows[1:-1], errors, strict=True), 1)
        ],
        begin=rows[0],
        end=rows[-1],
        constant_bytes=artifact.memory.constant_bytes,
        state_bytes=artifact.memory.state_bytes,
        error_of=error_of,
        threads=getattr(engine, "threads", 1),
        has_system=build.kind == "emulated" and find_target(build.target).has_system,
        **{"batch": batch, **parts},
    )


def _count(engine: CountingEngine, inputs: Arrays, target: str) -> dict[str, Any]:
    from unfoldc.runtime.estimates import counted

    counts = engine.count(inputs)
    return {
        **counted(counts, find_target(target)),
        "batch": 1,
        "repeats": 1,
        "flash_bytes": engine.flash_bytes,
        "ram_bytes": engine.ram_bytes,
        "stack_bytes": counts.stack_bytes,
        "stack_bound_bytes": engine.stack_bound_bytes,
        "note": getattr(engine, "note", ""),
    }


def _time(
    artifact: Artifact, engine: Engine, inputs: Arrays, batch: int, repeats: int, seconds: float
) -> dict[str, Any]:
    stamps = has_stamps(artifact.backend)
    timing = _repeat(artifact, engine, inputs, batch, repeats, seconds, stamps)
    figures = {
        "rows": [Row()] * (artifact.iterations + 2),
        "repeats": len(timing.plain),
        "seconds_p50": float(np.median(timing.plain)) * 1e-9,
        "seconds_p99": float(np.percentile(timing.plain, 99)) * 1e-9,
        "dispatch_seconds": timing.dispatch,
    }
    if not stamps:
        return figures
    single, plain = timing, getattr(engine, "engine", engine)
    if plain is not engine and artifact.batch is not None:  # stamps are made on one thread
        single = _repeat(artifact, plain, inputs, batch, repeats, seconds, stamps)
    elif batch > 1 and artifact.batch is None:
        # Several problems may be solved side by side between two stamps: what one costs a solve shows at batch 1.
        one = [array[:1] if port.batched else array for port, array in zip(artifact.inputs, inputs, strict=True)]
        single = _repeat(artifact, plain, one, 1, repeats, seconds, stamps)
    return figures | {
        "rows": timing.parts(),
        "stamp_seconds": single.stamps / (artifact.iterations + 3),
        "stamp_overhead": single.stamps / single.program,
    }


@dataclass(frozen=True)
class _Timing:
    """Nanoseconds of each repetition: without and with stamps, and for an empty batch; ticks `(repeats, K + 2)`."""

    plain: np.ndarray
    empty: np.ndarray
    stamped: np.ndarray
    stamped_empty: np.ndarray
    ticks: np.ndarray

    @property
    def dispatch(self) -> float:
        """Seconds that a call takes which solves nothing."""
        return float(np.median(self.empty)) * 1e-9

    @property
    def program(self) -> float:
        """Seconds inside the compiled program, without stamps."""
        return max(float(np.median(self.plain - self.empty)), 1.0) * 1e-9

    @property
    def stamps(self) -> float:
        """Seconds that all stamps take."""
        return float(np.median(self.stamped - self.stamped_empty)) * 1e-9 - self.program

    def parts(self) -> list[Row]:
        """Begin, iterations, end: medians that add up to the time without stamps; 99th percentiles on that scale."""
        p50, p99 = np.percentile(self.ticks.astype(np.float64), (50, 99), axis=0)
        scale = self.program / max(float(p50.sum()), 1.0)
        return [Row(float(a * scale), float(b * scale)) for a, b in zip(p50, p99, strict=True)]


def _repeat(
    artifact: Artifact, engine: Engine, inputs: Arrays, batch: int, repeats: int, seconds: float, stamps: bool
) -> _Timing:
    """Time the variants in turn, so that a change of the processor's speed meets all of them alike."""
    outputs, steps = new_outputs(artifact, batch), artifact.iterations
    ticks = np.zeros((repeats, steps + 2), np.uint64)
    times = np.zeros((4, repeats), np.int64)
    clock, solve, profile = time.perf_counter_ns, engine.solve, engine.profile
    spare = np.zeros(steps + 2, np.uint64)
    for _ in range(_WARM_UP):
        solve(inputs, outputs, batch, steps)
        if stamps:
            profile(inputs, outputs, batch, steps, spare)
    finish = clock() + int(seconds * 1e9)
    done = 0
    for row in ticks:
        t0 = clock()
        solve(inputs, outputs, batch, steps)
        t1 = clock()
        solve(inputs, outputs, 0, steps)
        t2 = t3 = t4 = clock()
        if stamps:
            profile(inputs, outputs, batch, steps, row)
            t3 = clock()
            profile(inputs, outputs, 0, steps, spare)
            t4 = clock()
        times[:, done] = t1 - t0, t2 - t1, t3 - t2, t4 - t3
        done += 1
        if t4 > finish:
            break
    return _Timing(times[0, :done], times[1, :done], times[2, :done], times[3, :done], ticks[:done])
