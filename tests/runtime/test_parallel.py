"""Batches that are split over threads: the same bits, and only where it pays."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.backends import checked_threads
from unfoldc.runtime.load import open_build
from unfoldc.runtime.parallel import ParallelEngine, split


def test_no_group_is_torn_apart() -> None:
    assert split(64, 16, 16, 2) == [0, 32, 64]
    assert split(100, 16, 16, 2) == [0, 48, 100]
    assert split(40, 16, 16, 3) == [0, 16, 32, 40]
    assert split(46, 16, 16, 3) == [0, 16, 32, 46]
    assert split(10, 16, 16, 2) == [0, 5, 10]
    assert split(10, 16, 8, 2) == [0, 10]
    assert split(30, 16, 8, 3) == [0, 16, 30]
    assert split(16, 16, 16, 4) == [0, 16]
    assert split(7, 1, 1, 3) == [0, 2, 5, 7]
    for batch, group, fewest in itertools.product(range(1, 200), (1, 8, 32), (1, 4, 32)):
        bounds = split(batch, group, min(fewest, group), 4)
        left = batch % group
        alone = batch if left >= min(fewest, group) else batch - left
        assert bounds[0] == 0 and bounds[-1] == batch and len(bounds) <= 5
        assert all(b % group == 0 or b >= alone for b in bounds)


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Engine:
    """x = y + 1, s = the first of H; a call takes `seconds` a problem, and `cost` where it is a part."""

    group = fewest = 4

    def __init__(self, clock: _Clock, seconds: float, cost: float = 0.0) -> None:
        self.clock, self.seconds, self.cost = clock, seconds, cost
        self.calls: list[int] = []
        self.lock = threading.Lock()

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        outputs[0][...] = inputs[0] + 1
        outputs[1][...] = inputs[1][0]
        with self.lock:
            self.calls.append(batch)
            whole = batch == 64
            self.clock.now += batch * self.seconds if whole else self.cost

    profile: Any = None


def _several(lista_build: Build, engine: _Engine, clock: _Clock, threads: int = 2) -> ParallelEngine:
    artifact = replace(
        lista_build.artifact,
        inputs=(Port("y", "float32", (2,), True), Port("H", "float32", (3,), False)),
        outputs=(Port("x", "float32", (2,), True), Port("s", "float32", (), False)),
    )
    return ParallelEngine(engine, artifact, threads, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "cost", "kept"),
    [(1e-5, 1e-4, [32, 32]), (1e-5, 4e-4, [64]), (1e-6, 0.0, [64])],
    ids=["it pays", "it does not", "too little work to try"],
)
def test_a_batch_is_split_where_that_is_faster(
    lista_build: Build, seconds: float, cost: float, kept: list[int]
) -> None:
    clock = _Clock()
    engine = _Engine(clock, seconds, cost)
    parallel = _several(lista_build, engine, clock)
    y, h = np.arange(128, dtype=np.float32).reshape(64, 2), np.array([5, 6, 7], np.float32)
    for _ in range(8):
        x, s = np.zeros_like(y), np.zeros((), np.float32)
        parallel.solve([y, h], [x, s], 64, 4)
        np.testing.assert_array_equal(x, y + 1)
        assert s == 5
    engine.calls.clear()
    parallel.solve([y, h], [x, s], 64, 4)
    assert engine.calls == kept
    assert engine.calls[0] <= 64


def test_a_failure_in_a_thread_is_raised(lista_build: Build) -> None:
    clock = _Clock()
    parallel = _several(lista_build, _Engine(clock, 1e-5), clock)
    with pytest.raises(IndexError):
        parallel._split([np.zeros((8, 2)), np.zeros(0)], [np.zeros((8, 2)), np.zeros(())], 2, 8, 4)


@pytest.mark.parametrize("batch", [1, 2, 33, 1000])
def test_the_bits_are_those_of_one_thread(lista_build: Build, lista: Any, batch: int) -> None:
    one, several = open_build(lista_build), open_build(lista_build, threads=3)
    assert (one.threads, several.threads) == (1, 3)
    y = lista.problems(batch)
    engine: Any = several._engine
    right = one(y)
    for _ in range(8):
        np.testing.assert_array_equal(several(y), right)
    x = np.zeros_like(right)
    engine._split([y], [x], min(batch, 3), batch, several.iterations)
    np.testing.assert_array_equal(x, right)
    call = several.bind(y)
    for _ in range(2):
        np.testing.assert_array_equal(call(), right)


@pytest.mark.parametrize("batch", [None, 8])
def test_a_profile_of_several_threads(lista_build: Build, lista: Any, batch: int | None) -> None:
    build = replace(lista_build, artifact=replace(lista_build.artifact, batch=batch))
    profile = open_build(build, threads=2).profile({"y": lista.problems(8)}, repeats=5)
    assert profile.stamp_seconds is not None and len(profile.iterations) == 4
    assert str(profile).startswith("4 iterations on host, backend c, batch 8 over up to 2 threads, 5 repetitions")


def test_threads_are_checked() -> None:
    assert checked_threads("reference", "host", None) == checked_threads("reference", "host", 1) == 1
    assert checked_threads("c", "host", 4) == 4
    for wrong in (0, True, 1.5, "2"):
        with pytest.raises(InputError, match="threads: .*; allowed: 1 or more"):
            checked_threads("c", "host", wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threads: 2 for backend reference; allowed: 1, or back end c, numba, tvm"):
        checked_threads("reference", "host", 2)
    with pytest.raises(InputError, match="threads: 2 for an emulated device"):
        checked_threads("c", "emulated", 2)
