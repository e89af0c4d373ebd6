"""One graph at one batch: every peer is built and checked in its own process, then all are timed in turn."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from measuring import ratios, spread
from speed_cases import find_graph
from speed_files import FOLDER, files_of
from speed_peers import OURS, installed
from speed_peers.base import Task
from speed_worker import TOO_SLOW, serve

Row = dict[str, Any]


class Workers:
    """The processes, one for each peer, started when they are needed."""

    def __init__(self, core: int) -> None:
        self.core = core
        self._running: dict[str, tuple[Any, Connection]] = {}
        self._context = multiprocessing.get_context("spawn")

    def connection(self, name: str) -> Connection:
        """The pipe to a running worker."""
        if name not in self._running:
            ours, theirs = self._context.Pipe()
            log = FOLDER / "log" / f"{name}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            process = self._context.Process(target=serve, args=(theirs, name, self.core, str(log)), daemon=True)
            process.start()
            theirs.close()
            self._running[name] = (process, ours)
        return self._running[name][1]

    def stop(self, name: str) -> str:
        """Ends a worker; the reason why it had ended before, if it had."""
        process, connection = self._running.pop(name)
        connection.close()
        process.join(0.2)
        code = process.exitcode
        if code is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
            return ""
        return f"the process ended with {'signal' if code < 0 else 'status'} {abs(code)}"

    def close(self) -> None:
        """Ends all."""
        for name in list(self._running):
            self.stop(name)


def make_task(name: str, batch: int, files: Mapping[str, Path], quick: bool) -> Task:
    """Inputs that are new to the exports, and the right answer in float64."""
    graph = find_graph(name)
    inputs = graph.example(batch, seed=3)
    arrays = tuple(np.ascontiguousarray(t.numpy()) for t in inputs)
    return Task(
        name, graph.iterations, batch, files, arrays, graph.answer(inputs).numpy(), graph.tolerance, Path(), quick
    )


def build(workers: Workers, names: Sequence[str], task: Task, limit: float) -> dict[str, dict[str, Row]]:
    """The variants of each peer, built by two workers at a time; those that failed hold why."""
    found: dict[str, dict[str, Row]] = {}
    waiting, busy = list(names), {}
    while waiting or busy:
        while waiting and len(busy) < 2:
            name = waiting.pop(0)
            if not installed(name):
                found[name] = {"": {"failed": "not installed"}}
                continue
            _request_build(workers, name, task, (), limit)
            busy[name] = limit + 60
        for name in list(busy):
            rows = found.setdefault(name, {})
            done = _receive(workers, name, rows, busy[name])
            if done == "crashed":  # once more, with what was right before
                good = [v for v, row in rows.items() if "failed" not in row]
                rows["?"] = {"failed": workers.stop(name) or f"stopped after {limit + 60:.0f} s"}
                if good:
                    _request_build(workers, name, task, good, limit)
                    if _receive(workers, name, rows, limit + 60) == "crashed":
                        workers.stop(name)
                        rows.update({v: {"failed": "crashed in the second build"} for v in good})
            del busy[name]
    return found


def _request_build(workers: Workers, name: str, task: Task, only: Sequence[str], limit: float) -> None:
    folder = FOLDER / "products" / name
    folder.mkdir(parents=True, exist_ok=True)
    workers.connection(name).send(("build", replace(task, folder=folder), tuple(only), limit))


def _receive(workers: Workers, name: str, rows: dict[str, Row], seconds: float) -> str:
    connection = workers.connection(name)
    while True:
        try:
            if not connection.poll(seconds):
                return "crashed"
            message = connection.recv()
        except (EOFError, OSError):
            return "crashed"
        if message is None:
            return "done"
        rows[message[0]] = message[1]


def time_in_turn(
    workers: Workers, candidates: Mapping[str, float], rounds: int, seconds: float, budget: float
) -> dict[str, Row]:
    """Seconds per call of each candidate `peer|variant`, whose first guess is given: median, quartiles, least."""
    counts = {name: max(1, round(seconds / max(guess, 1e-8))) for name, guess in candidates.items()}
    once = sum((count + (count > 1)) * candidates[name] for name, count in counts.items())
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(max(3, min(rounds, int(budget / max(once, 1e-6))))):
        for name in list(samples):
            seconds_each = _timed(workers, name, counts[name], 60 + 50 * counts[name] * candidates[name])
            if seconds_each is None:
                del samples[name]
            else:
                samples[name].append(seconds_each)
    return {name: {**spread(s), "least": min(s), "samples": s} for name, s in samples.items()}


def _timed(workers: Workers, name: str, count: int, patience: float) -> float | None:
    """Seconds per call; None of a peer that died or hangs, whose process is ended."""
    peer, variant = name.split("|")
    connection = workers.connection(peer)
    try:
        connection.send(("time", variant, count))
        if connection.poll(patience):
            found: float = connection.recv()
            return found
    except (EOFError, OSError):
        pass
    workers.stop(peer)
    return None


def measure(workers: Workers, name: str, batch: int, peers: Sequence[str], quick: bool, limit: float) -> Row:
    """The row of one graph at one batch."""
    files, missing = files_of(name, batch)
    task = make_task(name, batch, files, quick)
    built = build(workers, [*OURS, *peers], task, limit)
    row: Row = {"graph": name, "batch": batch, "forms_missing": missing, "peers": {}}
    candidates: dict[str, float] = {}
    for peer, variants in built.items():
        good = {v: r["call_seconds"] for v, r in variants.items() if "failed" not in r}
        kept = list(good) if peer in OURS else _hopeful(good)
        row["peers"][peer] = {"variants": variants}
        if not kept:
            reasons = [r["failed"] for r in variants.values() if r.get("failed")]
            row["peers"][peer]["failed"] = reasons[0] if reasons else "no variant"
            continue
        connection = workers.connection(peer)
        connection.send(("keep", kept))
        connection.recv()
        candidates |= {f"{peer}|{v}": good[v] for v in kept if good[v] < TOO_SLOW}
    rounds, seconds, budget = (5, 0.004, 1.5) if quick else (15, 0.01, 8.0)
    timed = time_in_turn(workers, candidates, rounds, seconds, budget)
    for lost in candidates.keys() - timed.keys():
        row["peers"][lost.split("|")[0]]["failed"] = "it crashed or hung while it was timed"
    for candidate in sorted(timed, key=lambda n: -timed[n]["median"]):
        peer, variant = candidate.split("|")
        row["peers"][peer]["fastest"] = variant
    row["timed"] = {n: {k: v for k, v in t.items() if k != "samples"} for n, t in timed.items()}
    return row | _compared(timed)


def _hopeful(guesses: Mapping[str, float]) -> list[str]:
    """The variants that may turn out to be the fastest, at most three: a guess was made while others were built."""
    ordered = sorted(guesses, key=guesses.__getitem__)
    return [v for v in ordered[:3] if guesses[v] <= 1.5 * guesses[ordered[0]]]


def _compared(timed: Mapping[str, Row]) -> Row:
    """Ours and theirs with the least median, and the ratios of the rounds."""
    ours = [n for n in timed if n.split("|")[0] in OURS]
    theirs = [n for n in timed if n not in ours]
    row: Row = {}
    if ours:
        row["ours"] = min(ours, key=lambda n: timed[n]["median"])
    if theirs:
        row["best_peer"] = min(theirs, key=lambda n: timed[n]["median"])
    if ours and theirs:
        row["ratio"] = ratios(timed, row["best_peer"], row["ours"])
        slowest_first = sorted(theirs, key=lambda n: -timed[n]["median"])  # of each peer the fastest stays
        row["ratios"] = {n.split("|")[0]: statistics.median(_each(timed, n, row["ours"])) for n in slowest_first}
    return row


def _each(timed: Mapping[str, Row], slow: str, fast: str) -> list[float]:
    return [a / b for a, b in zip(timed[slow]["samples"], timed[fast]["samples"], strict=True)]
