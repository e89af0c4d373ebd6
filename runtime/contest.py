"""Which of several builds of one solver is the fastest: all answer the same random problems, in turn, for a moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.convergence import Arrays, new_outputs
from unfoldc.runtime.engine import Engine
from unfoldc.runtime.profile import duration

SECONDS = 0.3
# Where the caller chooses the batch, one problem and many count alike: by the geometric mean.
BATCHES = (1, 64)
_BLOCK = 50e-6  # seconds: shorter calls are timed several at once
_CLEARLY = 0.95  # a rival must take less than this share of the first one's time: the choice must not hang on noise
_MOST_BYTES = 1 << 26  # of arrays for many problems
_TOLERANCE = 1e-3  # of the norm: sums are made in another order, and random problems may be badly scaled
Clock = Callable[[], float]


@dataclass(frozen=True)
class Verdict:
    """The winner, and a text with the figures."""

    winner: str
    text: str


def contest(
    engines: Mapping[str, Engine],
    artifact: Artifact,
    arbiter: Callable[[], Engine],
    *,
    seconds: float = SECONDS,
    clock: Clock = time.perf_counter,
) -> Verdict:
    """Time the engines against each other; `artifact` describes the ports, which all have in common.

    The first wins unless another is clearly faster. Where answers differ, the engine that `arbiter` makes says who is
    right, and only those that are take part; if none is, the first wins. About `seconds` in all, more where a single
    call takes long.
    """
    first = next(iter(engines))
    times: dict[int, dict[str, float]] = {}
    left = dict(engines)
    for batch in _batches(artifact):
        if times and (
            len(left) * 3 * batch * max(times[1].values()) > seconds or _bytes(artifact, batch) > _MOST_BYTES
        ):
            break  # many problems would take too long, or too much memory
        inputs = random_inputs(artifact, batch)
        left = _right(left, artifact, inputs, batch, arbiter)
        if len(left) < 2:
            break
        times[batch] = _times(left, artifact, inputs, batch, seconds / 2, clock)
    wrong = [f"{name} gives another answer" for name in engines if name not in left]
    if len(left) < 2:
        winner = next(iter(left), first)
        return Verdict(winner, "; ".join([winner, *wrong]))
    means = {name: math.prod(found[name] for found in times.values()) for name in left}
    fastest = min(left, key=lambda name: means[name])
    wins = fastest if first not in left or means[fastest] < means[first] * _CLEARLY ** len(times) else first
    rows = [
        f"{', '.join(f'{name} {duration(found[name])}' for name in left)}{f' for {batch} problems' * (batch > 1)}"
        for batch, found in times.items()
    ]
    return Verdict(wins, f"{wins}, measured on this machine ({'; '.join([*rows, *wrong])})")


def random_inputs(artifact: Artifact, batch: int) -> Arrays:
    """Normal random numbers, the same each time; zeros for integers, whose range is not known."""
    generator = np.random.default_rng(0)
    arrays = []
    for port in artifact.inputs:
        shape = (batch, *port.shape) if port.batched else port.shape
        floating = np.dtype(port.dtype).kind == "f"
        arrays.append((generator.standard_normal(shape) if floating else np.zeros(shape)).astype(port.dtype))
    return arrays


def _batches(artifact: Artifact) -> tuple[int, ...]:
    if artifact.batch is not None:
        return (artifact.batch,)
    return BATCHES if any(port.batched for port in artifact.inputs) else BATCHES[:1]


def _bytes(artifact: Artifact, batch: int) -> int:
    return batch * sum(port.size * np.dtype(port.dtype).itemsize for port in (*artifact.inputs, *artifact.outputs))


def _right(
    engines: Mapping[str, Engine], artifact: Artifact, inputs: Arrays, batch: int, arbiter: Callable[[], Engine]
) -> dict[str, Engine]:
    """The engines that agree with each other, or else with the arbiter."""
    answers = {name: _answer(engine, artifact, inputs, batch) for name, engine in engines.items()}
    standard = next(iter(answers.values()))
    if not all(_alike(answer, standard) for answer in answers.values()):
        standard = _answer(arbiter(), artifact, inputs, batch)
    return {name: engines[name] for name, answer in answers.items() if _alike(answer, standard)}


def _answer(engine: Engine, artifact: Artifact, inputs: Arrays, batch: int) -> Arrays:
    outputs = new_outputs(artifact, batch)
    with np.errstate(all="ignore"):
        engine.solve(inputs, outputs, batch, artifact.iterations)
    return outputs


def _alike(found: Arrays, right: Arrays) -> bool:
    return all(_close(a, b) for a, b in zip(found, right, strict=True))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind != "f":
        return bool((a == b).all())
    finite = np.isfinite(b)
    if not (finite == np.isfinite(a)).all():
        return False
    x, y = (np.where(finite, v, 0).astype(np.float64) for v in (a, b))
    return float(np.linalg.norm(x - y)) <= _TOLERANCE * float(np.linalg.norm(y))


def _times(
    engines: Mapping[str, Engine], artifact: Artifact, inputs: Arrays, batch: int, seconds: float, clock: Clock
) -> dict[str, float]:
    """Seconds of a call of each engine: the least of many, taken in turn."""
    outputs, steps = new_outputs(artifact, batch), artifact.iterations
    begin = clock()
    best = dict.fromkeys(engines, math.inf)
    calls = dict.fromkeys(engines, 1)
    while True:
        for name, engine in engines.items():
            start = clock()
            for _ in range(calls[name]):
                engine.solve(inputs, outputs, batch, steps)
            best[name] = min(best[name], (clock() - start) / calls[name])
            calls[name] = max(1, round(_BLOCK / max(best[name], 1e-9)))
        if clock() - begin >= seconds:
            return best
