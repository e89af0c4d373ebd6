"""Which back end wins, with a clock that only the engines move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.runtime.contest import contest, random_inputs


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Engine:
    """x = 2 y + error, in `seconds[batch]`."""

    def __init__(self, clock: _Clock, one: float, many: float, error: float = 0.0) -> None:
        self.clock, self.seconds, self.error, self.calls = clock, {1: one, 64: many, 8: many}, error, 0

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        outputs[0][...] = 2 * inputs[0] + self.error
        self.calls += 1
        self.clock.now += self.seconds[batch]

    profile: Any = None


def _artifact(lista: Any, **changes: Any) -> Artifact:
    ports = (Port("y", "float32", (5,), True), Port("n", "int32", (2,), True))
    outputs = (Port("x", "float32", (5,), True),)
    artifact: Artifact = lista.artifact(inputs=ports, outputs=outputs, **changes)
    return artifact


def _never() -> Any:
    raise AssertionError("the answers agree, so nobody need be asked")


@pytest.mark.parametrize(
    ("rival", "winner"),
    [
        ((4e-6, 60e-6), "c"),  # clearly faster for one, slower for many
        ((4e-6, 20e-6), "numba"),
        ((4.9e-6, 30e-6), "c"),  # faster, but not clearly
        ((9e-6, 10e-6), "numba"),  # the other way round
    ],
)
def test_one_problem_and_many_count_alike(lista: Any, rival: tuple[float, float], winner: str) -> None:
    clock = _Clock()
    engines = {"c": _Engine(clock, 5e-6, 30e-6), "numba": _Engine(clock, *rival)}
    verdict = contest(engines, _artifact(lista), _never, clock=clock)
    assert verdict.winner == winner
    figures = f"c 5 us, numba {rival[0] * 1e6:.3g} us; c 30 us, numba {rival[1] * 1e6:.3g} us for 64 problems"
    assert verdict.text == f"{winner}, measured on this machine ({figures})"
    assert 0.3 <= clock.now < 0.31


def test_a_fixed_batch_is_the_only_one_measured(lista: Any) -> None:
    clock = _Clock()
    engines = {"c": _Engine(clock, 1, 5e-6), "tvm": _Engine(clock, 2, 4e-6)}
    verdict = contest(engines, _artifact(lista, batch=8), _never, clock=clock)
    assert (verdict.winner, verdict.text) == ("tvm", "tvm, measured on this machine (c 5 us, tvm 4 us for 8 problems)")


def test_many_problems_are_left_out_where_they_take_long(lista: Any) -> None:
    clock = _Clock()
    engines = {"c": _Engine(clock, 0.02, 99), "tvm": _Engine(clock, 0.01, 99)}
    verdict = contest(engines, _artifact(lista), _never, clock=clock)
    assert verdict.text == "tvm, measured on this machine (c 20 ms, tvm 10 ms)"
    assert clock.now < 0.3


def test_many_problems_are_left_out_where_they_are_large(lista: Any) -> None:
    clock = _Clock()
    engines = {"c": _Engine(clock, 5e-4, 99), "tvm": _Engine(clock, 4e-4, 99)}
    ports = (Port("y", "float32", (1 << 18,), True), Port("n", "int32", (2,), True))
    verdict = contest(engines, replace(_artifact(lista), inputs=ports, outputs=ports[:1]), _never, clock=clock)
    assert verdict.text == "tvm, measured on this machine (c 500 us, tvm 400 us)"


@pytest.mark.parametrize(
    ("errors", "right", "text"),
    [
        ((0.0, 0.5), 0.0, "c; numba gives another answer"),
        ((0.5, 0.0), 0.0, "numba; c gives another answer"),
        ((0.5, 0.7), 0.0, "c; c gives another answer; numba gives another answer"),
        ((0.0, np.nan), 0.0, "c; numba gives another answer"),
    ],
)
def test_a_wrong_answer_never_wins(lista: Any, errors: tuple[float, float], right: float, text: str) -> None:
    clock = _Clock()
    engines = {"c": _Engine(clock, 5e-6, 5e-6, errors[0]), "numba": _Engine(clock, 1e-6, 1e-6, errors[1])}
    verdict = contest(engines, _artifact(lista), lambda: _Engine(clock, 0, 0, right), clock=clock)
    assert (verdict.winner, verdict.text) == (text.partition(";")[0], text)


def test_equal_nans_are_equal_answers(lista: Any) -> None:
    clock = _Clock()
    engines = {"c": _Engine(clock, 5e-6, 5e-6, np.nan), "numba": _Engine(clock, 1e-6, 1e-6, np.nan)}
    assert contest(engines, _artifact(lista), _never, clock=clock).winner == "numba"


def test_the_problems_are_the_same_each_time(lista: Any) -> None:
    first, second = (random_inputs(_artifact(lista), 3) for _ in range(2))
    assert [a.shape for a in first] == [(3, 5), (3, 2)] and [str(a.dtype) for a in first] == ["float32", "int32"]
    assert all((a == b).all() for a, b in zip(first, second, strict=True)) and not first[1].any()
    shared = replace(_artifact(lista), inputs=(Port("H", "float32", (2,), False),))
    assert random_inputs(shared, 3)[0].shape == (2,)
