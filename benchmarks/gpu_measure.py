"""One graph on the GPU, batch after batch, in a process of its own: a crash or a hang costs no more than that.

    python gpu_measure.py GRAPH BATCHES

Waits for a line of JSON: `seconds` that it has, when the GPU is its own, and the candidates that it is to do `without`.
Prints a line of JSON for what it does (`doing`), one for each batch as soon as ours was timed beside PyTorch
(`partial`), and one when all was. Ends with status 3 where the GPU is lost.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from without_install import ensure_unfoldc

ensure_unfoldc()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gpu_builds import plain_file, solver_folder  # noqa: E402
from gpu_cases import GPU_GRAPHS  # noqa: E402
from gpu_compile import MODES, is_compiled, why_not_compiled  # noqa: E402
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

ROUNDS, SLICE, LATENCIES = 9, 0.008, 40
_MOST = 1.5  # seconds for the calls of a candidate, which are fewer where each takes long
# Seconds that must be left for torch.compile, with and without its search, or where its cache knows the row.
_AUTOTUNE, _COMPILE, _CACHED = 40.0, 15.0, 2.0
_ENDS = 192, 64  # problems whose answers are checked, from the front and from the back
Row = dict[str, Any]


class Lost(Exception):
    """The GPU answers nothing any more in this process; `doing` is what was done with it last."""


def main(name: str, batches: str) -> None:
    """Measures the batches in this order; what comes late is measured beside fewer peers."""
    without_tf32()
    solver: Any = None
    try:
        solver = unfoldc.load(solver_folder(name))
    except Exception as error:  # which each row will say
        problem = _text(error)
    with suppress(Exception):  # it takes seconds, and is not asked for its GPU yet
        import_module("jax")
    line = sys.stdin.readline()
    if not line:
        return
    told = json.loads(line)
    finish = time.perf_counter() + told["seconds"]
    sizes = [int(batch) for batch in batches.split(",")]
    for i, batch in enumerate(sizes):
        left = (finish - time.perf_counter()) / (len(sizes) - i)
        try:
            row = measured(name, batch, solver, left, told["without"]) if solver else {"failed": problem}
        except Exception as error:
            row = {"failed": _text(error)}
        say({"graph": name, "batch": batch, **row})
        if "failed" in row and _is_lost():
            raise SystemExit(3)
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def say(row: Row) -> None:
    """A line for whoever reads."""
    print(json.dumps(row), flush=True)


def measured(name: str, batch: int, solver: Any, seconds: float, without: Collection[str] = ()) -> Row:
    """The row of one batch: answers checked, then times of the candidates in turn; first of those that cost little.

    `without`: candidates that are left out.
    """
    begun = time.perf_counter()
    graph = GPU_GRAPHS[name]
    host = graph.example(batch, seed=3)
    checked = _checked_problems(batch)
    right = graph.answer(tuple(t[checked] for t in host)).numpy()
    inputs: Tensors = tuple(t.cuda() for t in host)
    row: Row = {"graph": name, "batch": batch, "candidates": {}}
    found: dict[str, Candidate] = {}

    def add(label: str, make: Callable[[], Candidate], tolerance: float) -> None:
        if label in without:
            row["candidates"][label] = {"failed": "left out, since a process ended with it before"}
            return
        say({"doing": label, "batch": batch})
        start = time.perf_counter()
        facts: Row = {}
        try:
            candidate = make()
            facts["error"] = error_of(candidate.answer(), right, checked, batch)
            if not facts["error"] <= tolerance:
                facts["failed"] = f"wrong by {facts['error']:.2g}"
            else:
                found[label] = candidate
        except Exception as problem:  # a peer may raise anything
            facts["failed"] = _text(problem)
            if _is_lost():
                raise Lost(f"{label}: {facts['failed']}") from None
        row["candidates"][label] = {**facts, "build_seconds": round(time.perf_counter() - start, 2)}

    def time_them() -> Row:
        say({"doing": "times", "batch": batch})
        for label, times in in_turn(found).items():
            row["candidates"][label] |= times
        return {**row, "seconds": round(time.perf_counter() - begun, 1)}

    for label, make in ours(solver, inputs).items():
        add(label, make, graph.tolerance)
    add("torch eager", lambda: torch_candidate(eager(graph, inputs)), 1e-3)
    add("torch eager, CUDA graph", lambda: captured(eager(graph, inputs)), 1e-3)
    say({**time_them(), "partial": True})
    if batch <= 4096:
        say({"doing": "profile", "batch": batch})
        row["profile"] = _profile(solver, host)
    if plain_file(name).is_file():
        add("jax", lambda: jax_candidate(plain_file(name), inputs), 1e-3)
        add("onnxruntime", lambda: onnxruntime_candidate(plain_file(name), inputs, (batch, *right.shape[1:])), 1e-3)
    left = seconds - (time.perf_counter() - begun)
    modes = compile_modes(name, batch, left)
    torch._dynamo.reset()  # not between the modes: it would forget what was compiled
    for mode in modes:
        add(f"torch.compile, {mode}", lambda mode=mode: compiled(graph, inputs, mode), 1e-3)  # type: ignore[misc]
    reasons = {mode: why for mode in MODES if (why := why_not_compiled(name, batch, mode))}
    row["candidates"] |= {f"torch.compile, {mode}": {"failed": why} for mode, why in reasons.items()}
    if not modes:
        row["candidates"].setdefault("torch.compile", {"failed": f"left out: {left:.0f} s were left"})
    return time_them()


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _is_lost() -> bool:
    """Whether the GPU no longer answers, as after a crash of a kernel."""
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def ours(solver: Any, inputs: Tensors) -> Mapping[str, Callable[[], Candidate]]:
    """Bound in advance, called with tensors, and captured into a CUDA graph."""
    return {
        "ours, bound": lambda: torch_candidate(solver.bind(list(inputs))),
        "ours, call": lambda: torch_candidate(lambda: solver(*inputs)),
        "ours, CUDA graph": lambda: captured(solver.bind(list(inputs))),
    }


def compile_modes(name: str, batch: int, left: float) -> list[str]:
    """torch.compile's modes for which there is time: those that are in its cache, else one that has not failed."""
    known = [mode for mode in MODES if is_compiled(name, batch, mode)]
    if known:
        return known if left > _CACHED else []
    times = zip(MODES, (_AUTOTUNE, _COMPILE), strict=True)
    return [mode for mode, least in times if left > least and not why_not_compiled(name, batch, mode)][:1]


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
    counts, singles = {}, {}
    for name, candidate in candidates.items():
        once = max(_timed(candidate, 3, clock), 1e-7)
        counts[name] = max(1, min(2000, round(SLICE / once), round(_MOST / ROUNDS / once)))
        singles[name] = max(3, min(LATENCIES, round(_MOST / once)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    single: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, candidate in candidates.items():
            samples[name].append(_timed(candidate, counts[name], clock))
    for i in range(LATENCIES):
        for name, candidate in candidates.items():
            if i < singles[name]:
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
    """What the kernel takes, and the parts of a launch; or why that cannot be said."""
    try:
        return _figures(solver, host)
    except Exception as error:
        if _is_lost():
            raise Lost(f"profile: {_text(error)}") from None
        return {"failed": _text(error)}


def _figures(solver: Any, host: Tensors) -> Row:
    named = {port.name: t.numpy() for port, t in zip(solver.inputs, host, strict=True)}
    profile = solver.profile(named, repeats=200, seconds=4.0).to_dict()
    parts = [profile["begin"], *profile["iterations"], profile["end"]]
    kept = ("seconds_p50", "seconds_p99", "dispatch_seconds", "stamp_overhead", "gpu")
    return {**{key: profile[key] for key in kept}, "parts": [part["seconds_p50"] for part in parts]}


if __name__ == "__main__":
    main(*sys.argv[1:])
