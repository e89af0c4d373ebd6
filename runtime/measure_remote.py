"""Measures a solver on a connected device by the device's own clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.engine_remote import RemoteEngine
from unfoldc.runtime.one_by_one import problem_of
from unfoldc.runtime.profile import Row, duration
from unfoldc.targets.remote.device import Ticks
from unfoldc.targets.remote.protocol import Hello

_WARM_UP = 3


def measure_remote(
    artifact: Artifact, engine: RemoteEngine, inputs: list[np.ndarray], repeats: int, seconds: float
) -> dict[str, Any]:
    """The figures of a profile for the first problem: what the device counted, and what that is in s and in cycles.

    Where the device fails after some repetitions, they count, and `note` says what happened; before, DeviceError.
    """
    problem = problem_of(artifact, inputs, 0)
    found = engine.counts(problem, artifact.iterations, repeats, seconds, warm_up=_WARM_UP)
    hello, failure = found.hello, found.failure
    runs = bool(found.counts.any())
    scale = {"seconds": _seconds_per_count(hello, engine.board_hz), "cycles": _cycles_per_count(hello)} if runs else {}
    # Each part lies between two stamps and contains one.
    counts = np.maximum(found.counts.astype(np.float64) - hello.stamp_ticks, 0.0)
    each, whole = (np.percentile(c, (50, 99), axis=0) for c in (counts, counts.sum(axis=1)))
    notes = []
    if failure is not None:
        notes.append(f"ended after {len(counts)} of {repeats} repetitions: {failure}")
    if not runs:
        notes.append("the device's clock stands still: nothing was timed")
    stamp = scale.get("seconds")
    if stamp and found.seconds > stamp * 2.0**hello.clock_bits:
        period = stamp * 2.0**hello.clock_bits
        notes.append(f"the device's clock goes round in {duration(period)}: a part that took longer seems shorter")
    stack, failed = _stack(engine, problem, artifact.iterations) if failure is None else (None, "")
    notes += [failed] if failed else []
    return {
        "rows": [Row(**_figures(scale, *column)) for column in each.T],  # type: ignore[arg-type]
        "batch": 1,
        "repeats": len(counts),
        **_figures(scale, *whole),
        **({"stamp_seconds": hello.stamp_ticks * stamp, "stamp_overhead": _share(found)} if stamp else {}),
        **{name: getattr(engine, name) for name in ("flash_bytes", "ram_bytes")},
        "stack_bytes": stack,
        # A bound of our own build says nothing of what another compiler has made for the board.
        "stack_bound_bytes": engine.stack_bound_bytes if stack is None else None,
        "on": engine.on,
        "note": "; ".join(notes),
    }


def _stack(engine: RemoteEngine, problem: list[np.ndarray], iterations: int) -> tuple[int | None, str]:
    """Bytes of stack, and why there are none where the device failed: what was timed is not lost with it."""
    try:
        return engine.stack_bytes(problem, iterations), ""
    except DeviceError as failure:
        return None, f"the stack was not measured: {failure}"


def _figures(scale: dict[str, float], p50: float, p99: float) -> dict[str, float]:
    """`seconds_p50`, `cycles_p99` and so on, those that the clock gives."""
    return {
        f"{unit}_{name}": float(n * s) for unit, s in scale.items() if s for name, n in (("p50", p50), ("p99", p99))
    }


def _seconds_per_count(hello: Hello, board_hz: int | None) -> float:
    """0 where nobody knows the clock's rate; cycles are taken to come at the board's."""
    hz = hello.clock_hz or (board_hz or 0 if hello.clock_unit == "cycles" else 0)
    return 1 / hz if hz else 0.0


def _cycles_per_count(hello: Hello) -> float:
    return 1.0 if hello.clock_unit == "cycles" else 0.0


def _share(found: Ticks) -> float:
    """What all stamps take of a solve."""
    whole = float(np.median(found.counts.sum(axis=1)))
    return found.hello.stamp_ticks * (found.counts.shape[1] + 1) / whole if whole else 0.0
