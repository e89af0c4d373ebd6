"""Batches that are split over threads: the same bits, and only where it pays."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime import parallel as parallel_module
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


def test_the_parts_are_solved_here_where_no_more_threads_start(
    lista_build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part is handed over, the thread for the next one fails: nothing may be written to the outputs later."""
    clock, start, started = _Clock(), threading.Thread.start, list[threading.Thread]()

    def limited(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    engine = _Engine(clock, 1e-5)
    solve, whole, late = engine.solve, threading.Event(), list[int]()

    def slow(inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        if batch == 12:
            whole.set()
        else:
            assert not whole.wait(0.05), "the batch is solved while a part of it is still on its way"
            late.append(batch)
        solve(inputs, outputs, batch, iterations)

    monkeypatch.setattr(engine, "solve", slow)
    monkeypatch.setattr(threading.Thread, "start", limited)
    parallel = _several(lista_build, engine, clock, threads=3)
    y, h = np.ones((12, 2), np.float32), np.array([5, 6, 7], np.float32)
    parallel._parts[12, 4] = 3
    for _ in range(2):
        x, s = np.zeros_like(y), np.zeros((), np.float32)
        parallel.solve([y, h], [x, s], 12, 4)
        np.testing.assert_array_equal(x, y + 1)
        assert s == 5 and parallel._parts[12, 4] == 1
    assert late == [4, 4] and not started[0].is_alive()


def test_a_solver_is_called_while_the_interpreter_ends(lista_build: Build, lista: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", lista.problems(64))
    program = f"""
import atexit, sys
import numpy as np
import unfoldc
solver, y = unfoldc.load({str(lista_build.folder)!r}, threads=2), np.load({str(tmp_path / "y.npy")!r})
right = unfoldc.load({str(lista_build.folder)!r})(y)
solver._engine._parts[64, 4] = 2
assert (solver(y) == right).all()
atexit.register(lambda: print((solver(y) == right).all()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_first_calls_at_once_leave_the_trial_of_several_threads(
    lista_build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that began when there were no times yet decide nothing, however many they are."""
    clock = _Clock()
    engine = _Engine(clock, 1e-5, 1e-4)
    parallel, together = _several(lista_build, engine, clock), threading.Barrier(5)
    solve, y, h = engine.solve, np.zeros((64, 2), np.float32), np.zeros(3, np.float32)

    def wait(*arguments: Any) -> None:
        solve(*arguments)
        together.wait(10)

    def call() -> None:
        parallel.solve([y, h], [np.zeros_like(y), np.zeros((), np.float32)], 64, 4)

    monkeypatch.setattr(engine, "solve", wait)
    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(engine, "solve", solve)
    assert not parallel._parts
    for _ in range(4):
        call()
    assert parallel._parts == {(64, 4): 2}


def test_batches_that_never_come_again_are_forgotten(lista_build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_module, "_MOST_TRIED", 8)
    clock = _Clock()
    parallel = _several(lista_build, _Engine(clock, 1e-6), clock)
    for batch in range(2, 40):
        y = np.zeros((batch, 2), np.float32)
        parallel.solve([y, np.zeros(3, np.float32)], [y.copy(), np.zeros((), np.float32)], batch, 4)
    assert len(parallel._timed) <= 8


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
