"""One graph on the GPU, batch after batch, in a process of its own: a crash or a hang costs no more than that.

    python gpu_measure.py GRAPH BATCHES

Waits for a line that says how many seconds it has, when the GPU is its own.
Prints a line of JSON for each batch as soon as it is measured, and ends with status 3 where the GPU is lost.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from without_install import ensure_unfoldc

ensure_unfoldc()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gpu_builds import plain_file, solver_folder  # noqa: E402
from gpu_cases import GPU_GRAPHS  # noqa: E402
from gpu_compile import MODES, is_compiled  # noqa: E402
from gpu_peers import (  # noqa: E402
    Candidate,
    Tensors,
    captured,
    compiled,
    eager,
    jax_candidate,
    onnxruntime_candidate,
    torch_candidate,
    without_tf32,
)
from measuring import spread  # noqa: E402

import unfoldc  # noqa: E402
from unfoldc.errors import DeviceError, UnfoldcError  # noqa: E402

ROUNDS, SLICE, LATENCIES = 9, 0.008, 40
# Seconds that must be left for torch.compile, with and without its search, or where its cache knows the row.
_AUTOTUNE, _COMPILE, _CACHED = 40.0, 15.0, 2.0
_ENDS = 192, 64  # problems whose answers are checked, from the front and from the back
Row = dict[str, Any]


def main(name: str, batches: str) -> None:
    """Measures the batches in this order; what comes late is measured beside fewer peers."""
    without_tf32()
    solver = unfoldc.load(solver_folder(name))
    with suppress(ImportError):  # it takes seconds, and is not asked for its GPU yet
        import_module("jax")
    seconds = sys.stdin.readline()
    if not seconds:
        return
    finish = time.perf_counter() + float(seconds)
    sizes = [int(batch) for batch in batches.split(",")]
    for i, batch in enumerate(sizes):
        left = finish - time.perf_counter()
        try:
            row = measured(name, batch, solver, left / (len(sizes) - i))
        except DeviceError as error:
            print(json.dumps({"graph": name, "batch": batch, "failed": str(error)[:300]}), flush=True)
            raise SystemExit(3) from None
        except (UnfoldcError, RuntimeError, ValueError) as error:
            row = {"graph": name, "batch": batch, "failed": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(row), flush=True)
        torch.cuda.empty_cache()


def measured(name: str, batch: int, solver: Any, seconds: float) -> Row:
    """The row of one batch: answers checked, then times of the candidates in turn."""
    begun = time.perf_counter()
    graph = GPU_GRAPHS[name]
    host = graph.example(batch, seed=3)
    checked = _checked_problems(batch)
    right = graph.answer(tuple(t[checked] for t in host)).numpy()
    inputs: Tensors = tuple(t.cuda() for t in host)
    row: Row = {"graph": name, "batch": batch, "candidates": {}}
    found: dict[str, Candidate] = {}

    def add(label: str, make: Callable[[], Candidate], tolerance: float) -> None:
        start = time.perf_counter()
        facts: Row = {}
        try:
            candidate = make()
            facts["error"] = error_of(candidate.answer(), right, checked, batch)
            if not facts["error"] <= tolerance:
                facts["failed"] = f"wrong by {facts['error']:.2g}"
            else:
                found[label] = candidate
        except DeviceError:
            raise
        except Exception as problem:  # a peer may raise anything
            facts["failed"] = f"{type(problem).__name__}: {str(problem).strip()}"[:300]
        row["candidates"][label] = {**facts, "build_seconds": round(time.perf_counter() - start, 2)}

    for label, make in ours(solver, inputs).items():
        add(label, make, graph.tolerance)
    add("torch eager", lambda: torch_candidate(eager(graph, inputs)), 1e-3)
    add("torch eager, CUDA graph", lambda: captured(eager(graph, inputs)), 1e-3)
    if plain_file(name).is_file():
        add("jax", lambda: jax_candidate(plain_file(name), inputs), 1e-3)
        add("onnxruntime", lambda: onnxruntime_candidate(plain_file(name), inputs, (batch, *right.shape[1:])), 1e-3)
    left = seconds - (time.perf_counter() - begun)
    modes = compile_modes(name, batch, left)
    torch._dynamo.reset()  # not between the modes: it would forget what was compiled
    for mode in modes:
        add(f"torch.compile, {mode}", lambda mode=mode: compiled(graph, inputs, mode), 1e-3)  # type: ignore[misc]
    if not modes:
        row["candidates"]["torch.compile"] = {"failed": f"left out: {left:.0f} s were left"}
    for label, times in in_turn(found).items():
        row["candidates"][label] |= times
    if batch <= 4096:
        row["profile"] = _profile(solver, host)
    return {**row, "seconds": round(time.perf_counter() - begun, 1)}


def ours(solver: Any, inputs: Tensors) -> Mapping[str, Callable[[], Candidate]]:
    """Bound in advance, called with tensors, and captured into a CUDA graph."""
    call = solver.bind(list(inputs))
    return {
        "ours, bound": lambda: torch_candidate(call),
        "ours, call": lambda: torch_candidate(lambda: solver(*inputs)),
        "ours, CUDA graph": lambda: captured(call),
    }


def compile_modes(name: str, batch: int, left: float) -> list[str]:
    """torch.compile's modes for which there is time: those that are in its cache, else one."""
    known = [mode for mode in MODES if is_compiled(name, batch, mode)]
    if known:
        return known if left > _CACHED else []
    return [MODES[0]] if left > _AUTOTUNE else [MODES[1]] if left > _COMPILE else []


def _checked_problems(batch: int) -> torch.Tensor:
    first, last = _ENDS
    if batch <= first + last:
        return torch.arange(batch)
    return torch.cat([torch.arange(first), torch.arange(batch - last, batch)])


def error_of(answer: np.ndarray, right: np.ndarray, checked: torch.Tensor, batch: int) -> float:
    """The error relative to the norm of the answer, of those problems that are checked; infinite where NaN is."""
    if len(answer) != batch or not np.isfinite(answer).all():
        return float("inf")
    difference = answer[checked.numpy()].astype(np.float64) - right
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(right)), 1e-30))


def in_turn(candidates: Mapping[str, Candidate], clock: Callable[[], float] = time.perf_counter) -> dict[str, Row]:
    """Seconds per call, many of them under way at once, as median and quartiles; and of one that is waited for."""
    counts = {}
    for name, candidate in candidates.items():
        once = _timed(candidate, 3, clock)
        counts[name] = max(3, min(2000, round(SLICE / max(once, 1e-7))))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    single: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, candidate in candidates.items():
            samples[name].append(_timed(candidate, counts[name], clock))
    for _ in range(LATENCIES):
        for name, candidate in candidates.items():
            single[name].append(_timed(candidate, 1, clock))
    return {
        name: {"time": spread(samples[name]), "latency": statistics.median(single[name]), "samples": samples[name]}
        for name in candidates
    }


def _timed(candidate: Candidate, count: int, clock: Callable[[], float]) -> float:
    candidate.wait()
    start = clock()
    for _ in range(count):
        candidate.run()
    candidate.wait()
    return (clock() - start) / count


def _profile(solver: Any, host: Tensors) -> Row:
    """What the kernel takes, and the parts of a launch."""
    named = {port.name: t.numpy() for port, t in zip(solver.inputs, host, strict=True)}
    profile = solver.profile(named, repeats=200, seconds=4.0).to_dict()
    parts = [profile["begin"], *profile["iterations"], profile["end"]]
    kept = ("seconds_p50", "seconds_p99", "dispatch_seconds", "stamp_overhead", "gpu")
    return {**{key: profile[key] for key in kept}, "parts": [part["seconds_p50"] for part in parts]}


if __name__ == "__main__":
    main(*sys.argv[1:])
