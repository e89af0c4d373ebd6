"""A process for each peer: it builds, checks and times on request, so that a crash or a hang costs one peer only."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS", "NUMBA_NUM_THREADS")
TOO_SLOW = 2.0  # seconds of a call, beyond which nothing is timed
Row = dict[str, Any]


def serve(connection: Connection, name: str, core: int, log: str) -> None:
    """Answers requests until the pipe is closed: ("build", task, only, seconds), ("keep", names), ("time", name, n)."""
    os.setsid()  # what it starts, compilers for instance, is ended with it
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    _wide_stack()
    calls: dict[str, Any] = {}
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if request[0] == "build":
            calls.clear()
            _build(connection, name, core, calls, *request[1:])
        elif request[0] == "keep":
            for other in set(calls) - set(request[1]):
                del calls[other]
            connection.send(None)
        else:
            connection.send(_time(calls[request[1]].run, request[2]))


def _wide_stack() -> None:
    """Flat C keeps its temporaries on the stack."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = 100 << 20
    resource.setrlimit(resource.RLIMIT_STACK, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _build(
    connection: Connection, name: str, core: int, calls: dict[str, Any], task: Any, only: Sequence[str], limit: float
) -> None:
    """Builds the variants one after the other, each checked; sends a row for each and None at the end."""
    from speed_peers import variants

    _bind_threads(range(os.cpu_count() or 1))
    begun = time.perf_counter()
    try:
        found = variants(name, task)
    except Exception as problem:
        connection.send(("", {"failed": _text(problem)}))
        connection.send(None)
        return
    for variant, make in found.items():
        if only and variant not in only:
            continue
        if time.perf_counter() - begun > limit:
            connection.send((variant, {"failed": f"not tried: {limit:.0f} s had passed"}))
            continue
        start = time.perf_counter()
        try:
            built = make()
            row: Row = {"seconds": time.perf_counter() - start}
            start = time.perf_counter()
            row["error"] = task.error(built.answer())
            taken = time.perf_counter() - start
            if taken > 2 * TOO_SLOW:
                row["failed"] = f"a call takes {taken:.1f} s"
            elif row["error"] > task.tolerance:
                row["failed"] = f"wrong by {row['error']:.2g}"
            else:
                _bind_threads([core])
                row["call_seconds"] = _first_guess(built.run)
                calls[variant] = built
        except Exception as problem:
            traceback.print_exc()
            row = {"failed": _text(problem)}
        connection.send((variant, row))
        _bind_threads(range(os.cpu_count() or 1))
    _bind_threads([core])
    connection.send(None)


def _first_guess(call: Any) -> float:
    """Seconds per call, the least of a few."""
    once = _time(call, 1)
    count = max(1, min(1000, int(2e-3 / max(once, 1e-7))))
    return min(_time(call, count) for _ in range(1 if once > 0.5 else 5))


def _time(call: Any, count: int) -> float:
    """Seconds per call of `count` calls, after one that is not counted where they are many."""
    if count > 1:
        call()
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _bind_threads(cores: Sequence[int]) -> None:
    """All threads that the process has by now."""
    for task in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(task), cores)
        except OSError:
            continue


def _text(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0] if lines else ''}"[:240]
