"""Compares two builds of one solver on their device: in turn, so that what disturbs one disturbs the other.

Where an engine counts, one run says all. Where it reads the clock of a connected device, what that counts is compared,
since the time of a call contains the way there. Else calls are timed here, with bound arrays.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.contest import BATCHES, Clock, random_inputs
from unfoldc.runtime.convergence import Arrays, new_outputs
from unfoldc.runtime.engine import CountingEngine, Engine, TickingEngine, bound_solve
from unfoldc.runtime.one_by_one import problem_of

INSTRUCTIONS = "instructions"
CLEARLY = 0.01
"""The share by which a time may be shorter or longer by chance."""

_BLOCK = 100e-6  # seconds: shorter calls are timed several at once
_LONGEST = 0.03  # seconds: many problems are not measured where they would take longer
_FEWEST = 7  # pairs: if one build is faster in all of so many, chance is not the reason (1 in 128)
_DEVIATIONS = 3.0  # standard deviations of the rank of the median
_MOST_TICKS = 200  # repetitions on a device at once
_ROUNDS = 3  # each with new arrays and workspaces: where these lie may decide more than the code


@dataclass(frozen=True)
class Sample:
    """A candidate beside untuned, for `batch` problems in one call: what both take, in `unit`, and their ratio.

    `ratio` is the median of the ratios of pairs measured one right after the other; with all but certainty it is from
    `low` to `high`. `spread` is half the interquartile range of the candidate's figures, as a share of their median.
    """

    batch: int
    unit: str
    candidate: float
    untuned: float
    ratio: float
    low: float
    high: float
    spread: float


@dataclass(frozen=True)
class Workload:
    """What is measured, in which unit: problems of random numbers, `batch` of them in a call.

    `counted`: what untuned takes, once it is known.
    """

    batch: int
    inputs: Arrays
    unit: str
    counted: list[float] = field(default_factory=list)


def workloads(artifact: Artifact, engine: Engine, clock: Clock = time.perf_counter) -> list[Workload]:
    """One problem and, where the caller chooses the batch, many, unless they take long; one problem where one counts.

    `engine` is the untuned solver.
    """
    first, unit = artifact.batch if artifact.batch is not None else BATCHES[0], _unit(engine)
    found = [Workload(first, random_inputs(artifact, first), unit)]
    several = artifact.batch is None and any(port.batched for port in artifact.inputs)
    if not several or unit != "s":
        return found
    solve = _call(engine, artifact, found[0])
    solve()
    start = clock()
    solve()
    one = clock() - start
    if BATCHES[1] * one <= _LONGEST:
        found.append(Workload(BATCHES[1], random_inputs(artifact, BATCHES[1]), unit))
    return found


def _unit(engine: Engine) -> str:
    if hasattr(engine, "count"):
        return INSTRUCTIONS
    return cast(TickingEngine, engine).hello.clock_unit if hasattr(engine, "counts") else "s"


def compare(
    artifact: Artifact,
    untuned: Engine,
    candidate: Engine,
    work: Sequence[Workload],
    seconds: float,
    *,
    rounds: int = 1,
    clock: Clock = time.perf_counter,
) -> list[Sample]:
    """A sample for each workload; about `seconds` in all, more where single calls take long, less where one counts."""
    shares = [2 if w.batch > 1 else 1 for w in work]  # calls for many problems take longer
    each = [seconds * share / sum(shares) for share in shares]
    return [_sample(artifact, untuned, candidate, w, s, rounds, clock) for w, s in zip(work, each, strict=True)]


def confirm(
    artifact: Artifact,
    untuned: Engine,
    candidate: Engine,
    work: Sequence[Workload],
    seconds: float,
    clock: Clock = time.perf_counter,
) -> list[Sample]:
    """`compare` in several rounds with new arrays, of which the worst ratio counts."""
    return compare(artifact, untuned, candidate, work, seconds, rounds=_ROUNDS, clock=clock)


def score(samples: Sequence[Sample]) -> float:
    """What a candidate takes, as a share of what untuned takes: the geometric mean over the workloads.

    Above 1 where it is slower for any of them by more than what may be chance.
    """
    ratios = [s.ratio for s in samples]
    worst = max(ratios)
    return worst if worst > 1 + 2 * CLEARLY else math.prod(ratios) ** (1 / len(ratios))


def margin(unit: str) -> float:
    """The share by which a figure of this unit must be better to be better at all: what is counted is exact."""
    return 0.0 if unit == INSTRUCTIONS else CLEARLY


def is_faster(samples: Sequence[Sample]) -> bool:
    """Whether a candidate is faster without doubt: for one workload at least, and slower for none."""
    least = margin(samples[0].unit)
    faster = any(s.high < 1 - least for s in samples)
    return faster and all(s.high <= 1 + least for s in samples) and score(samples) < 1 - least


def _sample(
    artifact: Artifact, untuned: Engine, candidate: Engine, w: Workload, seconds: float, rounds: int, clock: Clock
) -> Sample:
    if w.unit == INSTRUCTIONS:
        if not w.counted:
            w.counted.append(_count(untuned, w))
        a, b = w.counted[0], _count(candidate, w)
        return Sample(w.batch, w.unit, b, a, b / a, b / a, b / a, 0.0)
    if w.unit != "s":
        return _ticked(artifact, cast(TickingEngine, untuned), cast(TickingEngine, candidate), w, seconds, rounds)
    parts: list[_Pairs] = []
    for _ in range(rounds):
        first, second = (_reader(engine, artifact, w, clock) for engine in (untuned, candidate))
        parts.append(_pairs(first, second, seconds / rounds, clock))
    firsts, seconds_ = (np.concatenate([getattr(p, name) for p in parts]) for name in ("first", "second"))
    low, high = _certain(np.sort(seconds_ / firsts))
    worst = max(float(np.median(p.second / p.first)) for p in parts)
    middle = float(np.median(seconds_)), float(np.median(firsts))
    return Sample(w.batch, w.unit, *middle, worst, low, max(high, worst), _spread([seconds_]))


def _ticked(
    artifact: Artifact, untuned: TickingEngine, candidate: TickingEngine, w: Workload, seconds: float, rounds: int
) -> Sample:
    """By the clock of a device, which each gives back to the other: there may be one board only."""
    problem = problem_of(artifact, w.inputs, 0)
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    candidate.close()  # its answers have been looked at
    for _ in range(rounds):
        for engine, kept in zip((untuned, candidate), found, strict=True):
            ticks = engine.counts(problem, artifact.iterations, _MOST_TICKS, seconds / (2 * rounds), warm_up=3)
            engine.close()
            if ticks.failure is not None:
                raise ticks.failure
            kept.append(np.maximum(ticks.counts.sum(axis=1, dtype=np.float64), 1.0))
    a, b = (_certain(np.sort(np.concatenate(kept))) for kept in found)
    worst = max(float(np.median(y) / np.median(x)) for x, y in zip(*found, strict=True))
    middle = [float(np.median(np.concatenate(kept))) for kept in found]
    return Sample(w.batch, w.unit, middle[1], middle[0], worst, b[0] / a[1], max(b[1] / a[0], worst), _spread(found[1]))


def _spread(parts: Sequence[np.ndarray]) -> float:
    values = np.concatenate(parts)
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / 2 / middle)


def _count(engine: Engine, w: Workload) -> float:
    return float(cast(CountingEngine, engine).count(w.inputs).total)


@dataclass(frozen=True)
class _Pairs:
    """Figures of one call, of both, measured one right after the other."""

    first: np.ndarray
    second: np.ndarray


def _pairs(first: Callable[[], float], second: Callable[[], float], seconds: float, clock: Clock) -> _Pairs:
    """Pairs in an order drawn anew each time: what comes second may find the processor in another state."""
    coin = random.Random(0)
    first(), second()  # caches, and how many calls to time at once
    found: tuple[list[float], list[float]] = ([], [])
    finish = clock() + seconds
    collecting = gc.isenabled()
    gc.disable()
    try:
        while len(found[0]) < _FEWEST or clock() < finish:
            order = (0, 1) if coin.random() < 0.5 else (1, 0)
            for which in order:
                found[which].append((first, second)[which]())
    finally:
        if collecting:
            gc.enable()
    return _Pairs(*(np.maximum(np.array(f), 1e-12) for f in found))


def _reader(engine: Engine, artifact: Artifact, w: Workload, clock: Clock) -> Callable[[], float]:
    """Measures a call, in seconds."""
    solve, calls = _call(engine, artifact, w), 1

    def seconds() -> float:
        nonlocal calls
        start = clock()
        for _ in range(calls):
            solve()
        each = (clock() - start) / calls
        calls = max(calls, min(10_000, round(_BLOCK / max(each, 1e-9))))
        return each

    return seconds


def _call(engine: Engine, artifact: Artifact, w: Workload) -> Callable[[], object]:
    inputs, outputs = [array.copy() for array in w.inputs], new_outputs(artifact, w.batch)
    return bound_solve(engine, inputs, outputs, w.batch, artifact.iterations, None)


def _certain(ratios: np.ndarray) -> tuple[float, float]:
    """Between which of the sorted ratios their true median lies, whatever their distribution."""
    n = len(ratios)
    away = math.ceil(_DEVIATIONS * math.sqrt(n) / 2)
    at = max(0, n // 2 - away)
    return float(ratios[at]), float(ratios[n - 1 - at])
