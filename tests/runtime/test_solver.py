"""Calls, conversions, refusals and early stops of a compiled solver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.load import load
from unfoldc.runtime.result import Status
from unfoldc.runtime.solver import Solver

K, N = 4, 9


def test_a_call_gives_the_answer_in_a_fresh_array(solver: Solver, lista: Any) -> None:
    y = lista.problems(3)
    first, second = solver(y), solver(y=y)
    np.testing.assert_allclose(first, lista.solve(y), atol=1e-6)
    np.testing.assert_array_equal(first, second)
    assert first is not second and not np.shares_memory(first, second)
    assert first.dtype == np.float32 and first.shape == (3, N)


def test_the_fast_path_and_the_slow_path_agree(solver: Solver, lista: Any) -> None:
    y = lista.problems(2)
    slow = solver(y)  # the shape is not known yet
    np.testing.assert_array_equal(solver(y), slow)
    np.testing.assert_array_equal(solver(lista.problems(7, seed=2))[:2], solver(lista.problems(7, seed=2)[:2]))


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.astype(np.float64),
        lambda y: y.astype(np.float16).astype(np.longdouble),
        lambda y: np.asfortranarray(y),
        lambda y: y.repeat(2, axis=0)[::2],
        lambda y: y.astype(">f4"),
        lambda y: y.tolist(),
        lambda y: np.frombuffer(b"\0" + y.tobytes(), np.uint8)[1:].view(np.float32).reshape(y.shape),
    ],
    ids=["float64", "long double", "Fortran order", "strided", "big endian", "list", "unaligned"],
)
def test_other_arrays_are_converted(solver: Solver, lista: Any, change: Any) -> None:
    y = lista.problems(3).astype(np.float16).astype(np.float32)
    solver(y)  # now the shape is known, and only the rest can keep the array from being passed on as it is
    np.testing.assert_allclose(solver(change(y)), lista.solve(y), atol=1e-6)


def test_integers_are_converted(solver: Solver, lista: Any) -> None:
    y = np.array([[1, -2, 3, 0, 1]])
    np.testing.assert_allclose(solver(y), lista.solve(y.astype(float)), atol=1e-5)


def test_a_read_only_input_is_not_written(solver: Solver, lista: Any) -> None:
    y = lista.problems(1)
    y.flags.writeable = False
    np.testing.assert_allclose(solver(y), lista.solve(y), atol=1e-6)


def test_an_empty_batch_has_an_empty_answer(solver: Solver) -> None:
    assert solver(np.zeros((0, 5), np.float32)).shape == (0, N)


REFUSED = {
    "shape": (np.zeros((2, 6), np.float32), "input y: shape (2, 6); allowed: (batch, 5). Reshape it;"),
    "one problem": (np.zeros(5, np.float32), "input y: shape (5,); allowed: (batch, 5). Add the batch axis: y[None]."),
    "transposed": (np.zeros((5, 2), np.float32), "shape (5, 2); allowed: (batch, 5). It fits when transposed: y.T."),
    "no axis": (np.float32(1), "input y: shape (); allowed: (batch, 5)."),
    "complex": (np.zeros((1, 5), complex), "element type complex128; allowed: float32, or a type that converts to it."),
    "object": (np.zeros((1, 5), object), "input y: element type object;"),
    "text": (np.array([["a"] * 5]), "input y: element type <U1;"),
    "ragged": ([[1.0], [1.0, 2.0]], "input y: no array ("),
    "too large": (np.full((1, 5), 1e300), "input y: a value that float32 cannot hold; allowed: values within float32."),
    "masked": (np.ma.zeros((1, 5)), "input y: a masked array; allowed: an array without a mask."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_input_that_does_not_fit_is_refused(solver: Solver, case: str) -> None:
    value, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        solver(value)
    assert message in str(error.value)
    with pytest.raises(InputError):
        solver.run({"y": value})


def test_missing_unknown_and_doubled_inputs_are_refused(solver: Solver, lista: Any) -> None:
    y = lista.problems(1)
    solver(y)
    signature = "allowed: y (batch, 5) float32."
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: solver(), f"input y: missing; {signature} Pass y by position or by name."),
        (lambda: solver(z=y), f"input z: no such input; {signature}"),
        (lambda: solver(y, y=y), f"input y: given by position and by name; {signature}"),
        (lambda: solver(y, y), f"inputs: 2 arrays; {signature} Pass at most 1."),
        (lambda: solver.run(y), "inputs: ndarray; allowed: a mapping from input names to arrays. Pass {'y': array}."),
    ]
    for call, message in calls:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)


def test_a_run_stops_after_as_many_iterations_as_asked(solver: Solver, lista: Any) -> None:
    y = lista.problems(3)
    for k in range(1, K + 1):
        result = solver.run({"y": y}, iterations=k)
        np.testing.assert_allclose(result.outputs["x"], lista.solve(y, k), atol=1e-6)
        assert result.iterations == k
        assert result.status is (Status.COMPLETE if k == K else Status.STOPPED)
    assert solver.run({"y": y}).iterations == solver.iterations == K


@pytest.mark.parametrize("iterations", [0, 5, -1, 1.5, "2", True])
def test_a_number_of_iterations_out_of_range_is_refused(solver: Solver, lista: Any, iterations: Any) -> None:
    with pytest.raises(InputError) as error:
        solver.run({"y": lista.problems(1)}, iterations=iterations)
    assert f"iterations: {iterations!r}; allowed: 1 to 4." in str(error.value)


def test_a_solver_that_cannot_stop_early_says_why(lista_build: Build, lista: Any) -> None:
    from unfoldc.runtime.load import open_build

    artifact = replace(lista_build.artifact, early_stop="iteration 2 differs from the others")
    solver = open_build(replace(lista_build, artifact=artifact))
    assert solver.run({"y": lista.problems(1)}, iterations=4).status is Status.COMPLETE
    with pytest.raises(InputError) as error:
        solver.run({"y": lista.problems(1)}, iterations=3)
    message = "3, but this solver cannot stop early (iteration 2 differs from the others); allowed: 4. Run all"
    assert message in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_reported(solver: Solver, lista: Any, bad: float) -> None:
    y = lista.problems(2)
    y[1, 0] = bad
    result = solver.run({"y": y})
    assert result.status is Status.NOT_FINITE and "NaN or Inf" in str(result.status)
    assert not np.isfinite(result.outputs["x"][1]).all() and np.isfinite(result.outputs["x"][0]).all()


def test_threads_do_not_disturb_each_other(solver: Solver, lista: Any) -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        y = lista.problems(3000, seed)  # long enough for calls to overlap
        right = lista.solve(y)
        for _ in range(20):
            if not np.allclose(solver(y), right, atol=1e-6):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


class _Adder:
    """An engine for a solver with several ports: s = a + H, t = sum of a."""

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        assert all(a.flags.c_contiguous and a.dtype == np.float32 for a in inputs)
        outputs[0][...] = inputs[0] + inputs[1]
        outputs[1][...] = inputs[0].sum(axis=-1) * iterations

    profile = None


def _several(lista_build: Build, **changes: Any) -> Solver:
    ports = {
        "inputs": (Port("a", "float32", (2,), True), Port("H", "float32", (2,), False)),
        "outputs": (Port("s", "float32", (2,), True), Port("t", "float32", (), True)),
    }
    return Solver(replace(lista_build, artifact=replace(lista_build.artifact, **ports, **changes)), _Adder())  # type: ignore[arg-type]


def test_several_inputs_and_outputs(lista_build: Build) -> None:
    solver = _several(lista_build)
    a, h = np.ones((3, 2), np.float32), np.array([1, 2], np.float32)
    for answer in (solver(a, h), solver(a, H=h), solver(H=h, a=a)):
        assert isinstance(answer, tuple)
        np.testing.assert_array_equal(answer[0], a + h)
        np.testing.assert_array_equal(answer[1], [8, 8, 8])
    assert set(solver.run({"a": a, "H": h}).outputs) == {"s", "t"}
    with pytest.raises(InputError, match=r"input H: shape \(1, 2\); allowed: \(2,\)"):
        solver(a, h[None])


def test_inputs_with_different_batches_are_refused(lista_build: Build) -> None:
    ports = (Port("a", "float32", (2,), True), Port("H", "float32", (2,), True))
    build = replace(lista_build, artifact=replace(lista_build.artifact, inputs=ports))
    solver = Solver(build, _Adder())  # type: ignore[arg-type]
    message = r"input H: a batch of 2; allowed: 3, the batch of a\. Pass the same number of problems"
    with pytest.raises(InputError, match=message):
        solver(np.zeros((3, 2), np.float32), np.zeros((2, 2), np.float32))


def test_a_fixed_batch_is_the_only_one_allowed(lista_build: Build) -> None:
    solver = _several(lista_build, batch=3)
    h = np.zeros(2, np.float32)
    assert solver(np.zeros((3, 2), np.float32), h)[0].shape == (3, 2)
    message = r"input a: shape \(4, 2\); allowed: \(3, 2\)\. This solver was compiled for batches of 3"
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            solver(np.zeros((4, 2), np.float32), h)


def test_narrowing_integers_must_not_change_them(lista_build: Build) -> None:
    artifact = replace(lista_build.artifact, inputs=(Port("a", "int32", (1,), True), Port("H", "float32", (1,), True)))
    solver = Solver(replace(lista_build, artifact=artifact), _Adder())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="input a: a value that int32 cannot hold"):
        solver(np.array([[2**40]]), np.zeros((1, 1)))
    with pytest.raises(InputError, match="input a: element type float32; allowed: int32"):
        solver(np.zeros((1, 1), np.float32), np.zeros((1, 1)))


def test_the_text_of_a_solver_shows_its_ports(solver: Solver) -> None:
    text = "<Solver y (batch, 5) float32 -> x (batch, 9) float32; 4 iterations, backend c, target host>"
    assert repr(solver) == text
    assert (solver.backend, solver.target, solver.inputs[0].name) == ("c", "host", "y")
    assert solver.backend_reason == "backend c was asked for"


@pytest.mark.parametrize("place", [".", "saved"])
def test_a_folder_is_loaded_by_a_relative_path(
    solver: Solver, lista: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    solver.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path / "saved" if place == "." else tmp_path)
    found = load(place)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(found(lista.problems(2)), solver(lista.problems(2)))
    np.testing.assert_array_equal(found.artifact.weights["W1"], lista.w1)
