"""Splits a batch over threads where that pays."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.runtime.engine import Engine, bound_solve

# Seconds of work that a thread must get: handing it over and waiting for it takes 20 to 40 us.
WORTH = 50e-6
_TRIALS = 3  # calls of each kind that are timed; the first of them finds cold caches, or starts threads
_CLEARLY = 0.95  # the share of one thread's time that several must stay below
_MANY = 256
_MOST_TRIED = 4096  # batches that came once or twice and never again are forgotten


class ParallelEngine:
    """Runs an engine on parts of a batch at once; each part has a workspace of its own, and no bit is changed.

    The engine must release the GIL while it solves. It may solve `group` problems side by side, and `fewest` or more of
    those that are left: no such group is torn apart. For each size of batch the first calls are timed, three on one
    thread and, where each would get `WORTH` seconds of work, three on several; the faster way is kept. Threads are
    started when the first batch is split.
    """

    def __init__(
        self,
        engine: Engine,
        artifact: Artifact,
        threads: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.engine, self.threads = engine, threads
        self._ports = artifact.inputs, artifact.outputs
        self._groups: tuple[int, int] = (getattr(engine, "group", 1), getattr(engine, "fewest", 1))
        self._clock = clock
        # (batch, iterations) -> parts, once it is known which number is the fastest; until then, what was timed.
        self._parts: dict[tuple[int, int], int] = {}
        self._timed: dict[tuple[int, int], list[float]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        parts = self._parts.get((batch, iterations), 0)
        if parts == 1 or batch < 2:
            self.engine.solve(inputs, outputs, batch, iterations)
        elif parts:
            self._split(inputs, outputs, parts, batch, iterations)
        else:
            self._try(inputs, outputs, batch, iterations)

    def _try(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve in the way whose turn it is, and decide when both have been timed. Threads may do so at once."""
        if len(self._parts) >= _MANY:
            self._parts.clear()
        if len(self._timed) >= _MOST_TRIED:
            self._timed.clear()
        key = batch, iterations
        timed = self._timed.setdefault(key, [])
        parts = 1
        enough = len(timed) >= _TRIALS  # other threads may add to the list from here on
        if enough:
            parts = min(
                self.threads, int(min(timed[:_TRIALS]) / WORTH), len(split(batch, *self._groups, self.threads)) - 1
            )
        start = self._clock()
        if parts < 2:
            self.engine.solve(inputs, outputs, batch, iterations)
        else:
            self._split(inputs, outputs, parts, batch, iterations)
        timed.append(self._clock() - start)
        if enough and parts < 2:
            self._parts[key] = 1
        elif enough and len(timed) >= 2 * _TRIALS:
            pays = min(timed[_TRIALS:]) < min(timed[:_TRIALS]) * _CLEARLY
            self._parts[key] = parts if pays else 1
        if key in self._parts:
            self._timed.pop(key, None)

    def bind(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int, answer: Any
    ) -> Callable[[], Any]:
        """`solve` with these arguments; a single problem is not split, so that its call is as short as without."""
        if batch < 2:
            return bound_solve(self.engine, inputs, outputs, batch, iterations, answer)

        def solve() -> Any:
            self.solve(inputs, outputs, batch, iterations)
            return answer

        return solve

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """The engine's own, on one thread."""
        self.engine.profile(inputs, outputs, batch, iterations, ticks)

    def _split(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], parts: int, batch: int, iterations: int
    ) -> None:
        read, written = self._ports
        calls = []
        for first, last in itertools.pairwise(split(batch, *self._groups, parts)):
            # What all problems share is written by the first part; the others write theirs elsewhere.
            answers = [
                array[first:last] if port.batched else np.empty_like(array) if first else array
                for port, array in zip(written, outputs, strict=True)
            ]
            calls.append((_part(read, inputs, first, last), answers, last - first, iterations))
        pool, others = self._threads(), []
        try:
            for call in calls[1:]:
                others.append(pool.submit(self.engine.solve, *call))
        except RuntimeError:  # no thread can be started, or none any more, since the interpreter is ending
            self._give_up(pool)
            self._parts[batch, iterations] = 1
            self.engine.solve(inputs, outputs, batch, iterations)
            return
        try:
            self.engine.solve(*calls[0])
        finally:
            wait(others)  # whatever happened, nobody may write to the outputs after this
        for other in others:
            other.result()

    def _give_up(self, pool: ThreadPoolExecutor) -> None:
        """Wait for the parts that were handed over, the one whose `submit` failed included, and start afresh."""
        if self._pool is pool:
            self._pool = None
        pool.shutdown()

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # threads do not survive a fork
            self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="unfoldc")
            self._process = os.getpid()
        return self._pool


def split(batch: int, group: int, fewest: int, parts: int) -> list[int]:
    """Where the parts begin, and the end: as even as is possible without tearing a group apart, else fewer parts.

    Problems behind the last whole group are one more group if they are `fewest` or more, else they stand alone.
    """
    left = batch % group
    alone = batch if left >= fewest else batch - left
    bounds = {0, batch}
    for i in range(1, parts):
        at = round(i * batch / parts)
        bounds.add(at if at >= alone else min(batch, round(at / group) * group))
    return sorted(bounds)


def _part(ports: Sequence[Port], arrays: Sequence[np.ndarray], first: int, last: int) -> list[np.ndarray]:
    return [array[first:last] if port.batched else array for port, array in zip(ports, arrays, strict=True)]
