"""Our own back ends beside each other, in one process and in turn: one problem, and a batch of 64.

Times are those of the thread, so that what else runs on the machine does not count.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from speed_cases import find_graph
from speed_files import files_of
from speed_peers import OURS, installed

import unfoldc

BATCHES = (1, 64)
_SLICE = 0.005  # seconds for which one is timed before it is the next one's turn
_PATIENCE = 20.0  # seconds for all of a graph
GOAL = 1.15  # times as long as the best of the others


def measure_backends(found: dict[str, Any], core: int, names: list[str], quick: bool, resume: bool) -> Iterator[str]:
    """Adds seconds per bound call of each back end to `found`, by graph and batch; yields a line of text after each.

    Answers are checked in float64 before. `resume` leaves out what is there.
    """
    allowed = os.sched_getaffinity(0)
    for name in names:
        for batch in BATCHES if find_graph(name).dynamic and not quick else BATCHES[:1]:
            key = f"{name}@{batch}"
            if resume and key in found:
                continue
            try:
                found[key] = _one(name, batch, core, quick)
            except Exception as problem:
                found[key] = {"failed": f"{type(problem).__name__}: {problem}"[:200]}
            finally:
                os.sched_setaffinity(0, allowed)
            yield f"back ends, {key}: {found[key]}"


def beside_best(row: dict[str, Any]) -> float:
    """How many times longer `tvm` takes than the best of the others."""
    return float(row["tvm"] / min(row[n] for n in OURS if n != "tvm" and n in row))


def _one(name: str, batch: int, core: int, quick: bool) -> dict[str, float]:
    graph = find_graph(name)
    inputs = graph.example(batch, seed=3)
    arrays, right = [np.ascontiguousarray(t.numpy()) for t in inputs], graph.answer(inputs).numpy()
    path = files_of(name, batch)[0]["dynamic"]
    calls = {}
    for backend in filter(installed, OURS):
        call = unfoldc.compile(path, backend=backend, batch=None if graph.dynamic else 1).bind(arrays)
        (answer, *_) = call() if isinstance(call(), tuple) else (call(),)
        error = float(np.linalg.norm(answer - right) / np.linalg.norm(right))
        if not error <= graph.tolerance:
            raise ValueError(f"{backend} is wrong by {error:.2g}")
        calls[backend] = call
    os.sched_setaffinity(0, {core})
    once = {backend: max(_seconds(call, 3), 1e-7) for backend, call in calls.items()}
    counts = {backend: max(1, round(_SLICE / seconds)) for backend, seconds in once.items()}
    rounds = 5 if quick else max(5, min(30, int(_PATIENCE / sum(once.values()))))
    samples: dict[str, list[float]] = {backend: [] for backend in calls}
    for _ in range(rounds):
        for backend, call in calls.items():
            samples[backend].append(_seconds(call, counts[backend]))
    return {backend: statistics.median(s) for backend, s in samples.items()}


def _seconds(call: Callable[[], Any], count: int) -> float:
    """Seconds of this thread for each of `count` calls."""
    start = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - start) / count
