"""Two builds side by side, with a clock that only the engines move: what is slower must never be taken for faster."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.runtime.tuning_measure import (
    CLEARLY,
    INSTRUCTIONS,
    Sample,
    compare,
    confirm,
    is_faster,
    margin,
    score,
    workloads,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """x = 2 y; a call takes `seconds(batch)`."""

    def __init__(self, clock: Clock, seconds: Callable[[int], float]) -> None:
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        outputs[0][...] = 2 * inputs[0]
        self.calls += 1
        self.clock.now += self.seconds(batch)

    profile: Any = None


def artifact(lista: Any, **changes: Any) -> Artifact:
    port = (Port("y", "float32", (5,), True),)
    made: Artifact = lista.artifact(inputs=port, outputs=port, **changes)
    return made


def decided(lista: Any, first: Callable[[int], float], second: Callable[[int], float], seconds: float = 2.0) -> bool:
    """Whether the second is taken for faster."""
    clock = Clock()
    untuned, candidate = Engine(clock, first), Engine(clock, second)
    made = artifact(lista)
    return is_faster(confirm(made, untuned, candidate, workloads(made, untuned, clock), seconds, clock))


def test_one_problem_and_many_in_turn(lista: Any) -> None:
    clock = Clock()
    untuned, candidate = Engine(clock, lambda n: 4e-6 * n), Engine(clock, lambda n: 3e-6 * n)
    work = workloads(artifact(lista), untuned, clock)
    assert [w.batch for w in work] == [1, 64] and {w.unit for w in work} == {"s"}
    start = clock.now
    samples = compare(artifact(lista), untuned, candidate, work, 0.2, clock=clock)
    assert 0.2 <= clock.now - start < 0.25
    assert [s.batch for s in samples] == [1, 64] and all(abs(s.ratio - 0.75) < 1e-6 for s in samples)
    assert score(samples) == pytest.approx(0.75) and is_faster(samples)
    assert samples[0].candidate == pytest.approx(3e-6) and samples[0].untuned == pytest.approx(4e-6)
    assert samples[0].spread == pytest.approx(0, abs=1e-6)


def test_many_problems_are_left_out_where_they_take_long_and_where_the_batch_is_fixed(lista: Any) -> None:
    clock = Clock()
    slow, fixed = Engine(clock, lambda n: 1e-3 * n), artifact(lista, batch=8)
    assert [w.batch for w in workloads(artifact(lista), slow, clock)] == [1]
    assert [w.batch for w in workloads(fixed, slow, clock)] == [8]


def test_a_call_that_takes_long_is_still_measured_often_enough_to_be_sure(lista: Any) -> None:
    assert decided(lista, lambda n: 2.0, lambda n: 1.5)
    assert not decided(lista, lambda n: 2.0, lambda n: 2.1)


@pytest.mark.parametrize("seed", range(6))
def test_noise_never_makes_the_slower_one_faster(lista: Any, seed: int) -> None:
    """Spikes of several times the time, drifts, and a candidate that is really 2 % slower, or as fast."""
    dice = random.Random(seed)

    def noisy(base: float) -> Callable[[int], float]:
        def seconds(n: int) -> float:
            spike = dice.random() ** -0.4 if dice.random() < 0.3 else 1.0
            return base * n * spike * dice.uniform(0.9, 1.1)

        return seconds

    assert not decided(lista, noisy(100e-6), noisy(102e-6))
    assert not decided(lista, noisy(100e-6), noisy(100e-6))


def test_what_gets_faster_while_it_is_measured_is_no_gain(lista: Any) -> None:
    """A processor that speeds up: what is measured later would look faster if the two were not taken in turn."""
    clock = Clock()
    shared = Engine(clock, lambda n: n * 100e-6 / (1 + clock.now))
    made = artifact(lista)
    assert not is_faster(confirm(made, shared, shared, workloads(made, shared, clock), 2.0, clock))


def test_a_candidate_that_is_fast_only_at_first_is_not_faster(lista: Any) -> None:
    clock, made = Clock(), artifact(lista)
    untuned = Engine(clock, lambda n: 100e-6 * n)
    calls = iter(range(10**9))
    tricky = Engine(clock, lambda n: n * (50e-6 if next(calls) < 100 else 105e-6))
    work = workloads(made, untuned, clock)
    assert score(compare(made, untuned, tricky, work, 0.004, clock=clock)) < 1
    assert not is_faster(confirm(made, untuned, tricky, work, 2.0, clock))


def test_faster_for_many_but_slower_for_one_is_not_faster(lista: Any) -> None:
    assert not decided(lista, lambda n: 10e-6 * n, lambda n: 11e-6 if n == 1 else 5e-6 * n)
    assert decided(lista, lambda n: 10e-6 * n, lambda n: 10e-6 if n == 1 else 5e-6 * n)


def sample(ratio: float, high: float | None = None, batch: int = 1, unit: str = "s") -> Sample:
    return Sample(batch, unit, ratio, 1.0, ratio, ratio, ratio if high is None else high, 0.0)


def test_scores() -> None:
    assert score([sample(0.8), sample(0.5, batch=64)]) == pytest.approx(0.4**0.5)
    assert score([sample(0.5), sample(1.1, batch=64)]) == 1.1  # slower for some
    assert score([sample(0.9), sample(1.0 + CLEARLY, batch=64)]) < 1
    assert margin("s") == margin("cycles") == CLEARLY and margin(INSTRUCTIONS) == 0
    assert not is_faster([sample(0.9, high=1.05)])  # doubt
    assert not is_faster([sample(1.0, unit=INSTRUCTIONS)]) and is_faster([sample(0.9999, unit=INSTRUCTIONS)])


class Counter:
    """An emulated device that takes so many instructions."""

    def __init__(self, instructions: int) -> None:
        self.instructions, self.counted = instructions, 0

    def count(self, inputs: Any) -> Any:
        self.counted += 1
        return SimpleNamespace(total=self.instructions)


def test_what_is_counted_is_counted_once(lista: Any) -> None:
    untuned, made = Counter(1000), artifact(lista)
    engines: Any = [untuned, Counter(900), Counter(1000)]
    work = workloads(made, engines[0])
    assert [(w.batch, w.unit) for w in work] == [(1, INSTRUCTIONS)]
    first, second = (compare(made, engines[0], e, work, 1.0) for e in engines[1:])
    assert is_faster(first) and not is_faster(second) and untuned.counted == 1
    assert first == [Sample(1, INSTRUCTIONS, 900.0, 1000.0, 0.9, 0.9, 0.9, 0.0)]


class Board:
    """A connected device with a clock of its own; only one solver can be on it."""

    taken: list[Any] = []

    def __init__(self, cycles: int, failure: Exception | None = None) -> None:
        self.cycles, self.failure = cycles, failure
        self.hello = SimpleNamespace(clock_unit="cycles")

    def counts(self, problem: Any, iterations: int, repeats: int, seconds: float, warm_up: int) -> Any:
        assert self.taken in ([], [self]) and problem[0].shape == (5,)
        self.taken[:] = [self]
        counts = np.full((repeats, iterations + 2), self.cycles, np.uint32)
        return SimpleNamespace(counts=counts, failure=self.failure)

    def close(self) -> None:
        self.taken[:] = [other for other in self.taken if other is not self]


def test_a_connected_device_counts_by_its_own_clock_and_is_given_back(lista: Any) -> None:
    made, engines = artifact(lista), [Board(100), Board(90)]
    untuned, candidate = (engine for engine in engines)
    work = workloads(made, untuned)  # type: ignore[arg-type]
    assert [(w.batch, w.unit) for w in work] == [(1, "cycles")]
    Board.taken[:] = [candidate]  # as when its answers have been looked at
    (found,) = confirm(made, untuned, candidate, work, 1.0)  # type: ignore[arg-type]
    assert found.ratio == pytest.approx(0.9) == found.high and is_faster([found]) and not Board.taken
    assert found.candidate == 90 * (made.iterations + 2)


def test_a_device_that_fails_is_named(lista: Any) -> None:
    made, gone = artifact(lista), DeviceError("board", "it is gone", "", "")
    first: Any = Board(100)
    second: Any = Board(90, gone)
    with pytest.raises(DeviceError, match="it is gone"):
        compare(made, first, second, workloads(made, first), 1.0)
    Board.taken.clear()
