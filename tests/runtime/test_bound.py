"""Calls whose arrays are bound once: what they compute, keep and refuse."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime import direct_call
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.engine_library import LibraryEngine, PreparedCall
from unfoldc.runtime.solver import Solver

K, N = 4, 9


def test_a_bound_call_solves_what_the_inputs_hold_then(solver: Solver, lista: Any) -> None:
    y, x = lista.problems(3), np.zeros((3, N), np.float32)
    call = solver.bind([y], [x])
    for seed in (1, 2):
        y[:] = lista.problems(3, seed)
        assert call() is x
        np.testing.assert_array_equal(x, solver(y))
    assert call.inputs["y"] is y and call.outputs["x"] is x
    assert (call.batch, call.iterations) == (3, K)
    assert repr(call) == "<BoundCall y (3, 5) -> x (3, 9); 4 iterations>"


def test_arrays_are_given_in_every_way(solver: Solver, lista: Any) -> None:
    y, x = lista.problems(2), np.zeros((2, N), np.float32)
    for inputs in (y, [y], (y,), {"y": y}):
        for outputs in (None, x, [x], {"x": x}, {}, []):
            np.testing.assert_array_equal(solver.bind(inputs, outputs)(), solver(y))


def test_fewer_iterations(solver: Solver, lista: Any) -> None:
    y = lista.problems(2)
    np.testing.assert_allclose(solver.bind(y, iterations=2)(), lista.solve(y, 2), atol=1e-6)
    with pytest.raises(InputError, match="iterations: 5; allowed: 1 to 4"):
        solver.bind(y, iterations=5)


def test_a_call_keeps_alive_all_that_it_needs(lista_build: Build, lista: Any) -> None:
    engine = LibraryEngine(lista_build.artifact, lista_build.folder / lista_build.product)
    y = lista.problems(4)
    right = lista.solve(y)
    call = Solver(lista_build, engine).bind(y.copy())
    del engine
    gc.collect()
    spoiled = [np.full(1 << 12, 7, np.uint8) for _ in range(200)]
    np.testing.assert_allclose(call(), right, atol=1e-6)
    del spoiled


def test_long_solves_hand_over_the_gil(solver: Solver, lista: Any) -> None:
    short, long = (solver.bind(lista.problems(batch)) for batch in (1, 10_000))
    assert isinstance(long.func, PreparedCall) and not isinstance(short.func, PreparedCall)
    for call in (short, long):
        np.testing.assert_allclose(call(), lista.solve(call.inputs["y"]), atol=1e-6)


def test_a_call_counts_the_users_of_its_answer(solver: Solver, lista: Any) -> None:
    call = solver.bind(lista.problems(1))
    answer = call()
    users = sys.getrefcount(answer)
    several = [call() for _ in range(1000)]
    assert sys.getrefcount(answer) == users + 1000
    several.clear()
    assert sys.getrefcount(answer) == users
    assert weakref.ref(call.func) and gc.is_tracked(call.func)
    kept = weakref.ref(call.func.__self__)  # type: ignore[attr-defined]
    run = call.func
    del call
    np.testing.assert_array_equal(run(), answer)
    del run
    gc.collect()
    assert kept() is None


def test_a_call_without_the_direct_way(solver: Solver, lista: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_call, "_SUPPORTED", False)
    call = solver.bind(lista.problems(2))
    assert isinstance(call.func, PreparedCall)
    np.testing.assert_allclose(call(), lista.solve(call.inputs["y"]), atol=1e-6)


def test_a_call_allocates_nothing(solver: Solver, lista: Any) -> None:
    engine: Any = solver._engine
    call = solver.bind(lista.problems(1))
    kept: Any = call.func.__self__  # type: ignore[attr-defined]
    workspace, record = kept.kept[0], kept.tobytes()
    place = workspace.address
    call()
    tracemalloc.start()
    try:
        call()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            call()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What Python itself does around the loop; an array would take more than a hundred bytes a call.
    assert after - before < 200 and peak - before < 1000
    assert (workspace.address, kept.tobytes()) == (place, record)
    assert workspace not in engine._pool


def test_the_answer_is_all_that_a_call_of_the_solver_allocates(solver: Solver, lista: Any) -> None:
    engine: Any = solver._engine
    y = lista.problems(1)
    solver(y)
    (workspace,) = engine._pool
    place = workspace.address
    answers = [solver(y) for _ in range(3)]
    assert engine._pool == [workspace] and workspace.address == place
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            solver(y)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1000 and len(answers) == 3


def test_calls_of_several_threads_do_not_disturb_each_other(solver: Solver, lista: Any) -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        call = solver.bind(lista.problems(2000, seed))
        right = lista.solve(call.inputs["y"])
        for _ in range(10):
            if not np.allclose(call(), right, atol=1e-6):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


Y, X = np.zeros((2, 5), np.float32), np.zeros((2, N), np.float32)
_shared = np.zeros(64, np.float32)
OVERLAPPING = _shared[:10].reshape(2, 5), _shared[9:27].reshape(2, N)
_locked = X.copy()
_locked.flags.writeable = False
REFUSED: dict[str, tuple[Any, Any, str]] = {
    "type": (Y.astype(float), None, "input y: element type float64; allowed: float32 exactly, for nothing is conv"),
    "byte order": (Y.astype(">f4"), None, "input y: element type >f4; allowed: float32 exactly"),
    "list": ([Y.tolist()], None, "input y: list; allowed: a NumPy array, which is bound as it is. Pass np.asco"),
    "masked": ([np.ma.asarray(Y)], None, "input y: MaskedArray; allowed: a NumPy array, which is bound as it is. Fill"),
    "strides": (np.zeros((2, 10), np.float32)[:, ::2], None, "input y: an array that is not contiguous;"),
    "Fortran": (np.asfortranarray(np.zeros((2, 5), np.float32)), None, "input y: an array that is not contiguous;"),
    "shape": (np.zeros((2, 6), np.float32), None, "input y: shape (2, 6); allowed: (batch, 5)."),
    "unknown": ({"z": Y}, None, "input z: no such input;"),
    "too many": ([Y, Y], None, "inputs: 2 arrays;"),
    "no arrays": (3, None, "inputs: int; allowed: a mapping from input names to arrays, or arrays in order."),
    "output type": (Y, X.astype(float), "output x: element type float64; allowed: float32 exactly"),
    "output shape": (Y, X[:1], "output x: shape (1, 9); allowed: (2, 9), for the inputs' batch. Pass an array of"),
    "output list": (Y, [X.tolist()], "output x: list; allowed: a NumPy array"),
    "read-only": (Y, _locked, "output x: a read-only array; allowed: an array that can be written to."),
    "overlap": (*OVERLAPPING, "output x: its memory overlaps that of input y; allowed: arrays apart from each other."),
    "output unknown": (Y, {"z": X}, "output z: no such output; allowed: x (batch, 9) float32."),
    "outputs too many": (Y, [X, X], "output number 1: no such output;"),
    "no outputs": (Y, 3, "outputs: int; allowed: None, a mapping from output names to arrays, or arrays in order."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_cannot_be_bound_are_refused(solver: Solver, case: str) -> None:
    inputs, outputs, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        solver.bind(inputs, outputs)
    assert message in str(error.value)


class _Adder:
    """An engine without calls of its own to prepare: s = a + H, t = sum of a."""

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        outputs[0][...] = inputs[0] + inputs[1]
        outputs[1][...] = inputs[0].sum(axis=-1) * iterations


def test_engines_of_all_kinds_are_bound(lista_build: Build) -> None:
    inputs = Port("a", "float32", (2,), True), Port("H", "float32", (2,), False)
    outputs = Port("s", "float32", (2,), True), Port("t", "float32", (), True)
    artifact = replace(lista_build.artifact, inputs=inputs, outputs=outputs)
    solver = Solver(replace(lista_build, artifact=artifact), _Adder())  # type: ignore[arg-type]
    a, h, s = np.ones((3, 2), np.float32), np.array([1, 2], np.float32), np.zeros((3, 2), np.float32)
    call = solver.bind({"H": h, "a": a}, {"s": s})
    a += 1
    answers = call()
    assert answers[0] is s and answers[1] is call.outputs["t"]
    np.testing.assert_array_equal(s, a + h)
    np.testing.assert_array_equal(answers[1], [16, 16, 16])
    with pytest.raises(InputError, match="output t: its memory overlaps that of output s"):
        solver.bind([a, h], [s, s.reshape(6)[:3]])
