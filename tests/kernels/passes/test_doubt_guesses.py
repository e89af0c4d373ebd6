"""Where the boundary may lie elsewhere, an answer after fewer iterations is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program

N, K = 4, 5


def solver(workshop: Any, steps: list[float], last: float | None, iterations: int = K, named: bool = False) -> Program:
    """x <- tanh(W x), x <- s_k x; behind them, with `last`, half a step more: x <- last x."""
    g = workshop.Graph()
    x = g.input("y", "batch", N)
    if last is not None:
        x = g("Mul", x, g.weight("s", 0.5))
    for k in range(iterations):
        g.k = k if named else None
        x = g("Tanh", g("MatMul", x, g.weight("W", g.random("W", N, N))))
        if last is None or k < iterations - 1:
            x = g("Mul", x, g.weight(f"s{k}", steps[k]))
    g.k = None
    if last is not None:
        x = g("Mul", x, g.weight("last", last))
    return optimise(workshop.imported(g.model(x)).program)


OWN = [0.5, 0.6, 0.7, 0.8, 0.9]


def test_the_end_may_hold_the_last_step(workshop: Any) -> None:
    """Whatever is taken for an iteration: where fewer of them have an answer, it is that of the shorter solver."""
    program = solver(workshop, OWN, None)
    inputs = {"y": np.random.default_rng(1).standard_normal((1, N))}
    if not program.early_stop:
        assert program.iterations == K
        for k in range(1, K + 1):
            (wanted,) = evaluate(solver(workshop, OWN, None, k, named=True), inputs)
            (found,) = evaluate(program, inputs, iterations=k)
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(("steps", "last", "doubt"), [(OWN, 0.3, True), ([0.5] * K, 0.5, False)])
def test_a_constant_like_those_of_the_iterations_raises_doubt(
    workshop: Any, steps: list[float], last: float, doubt: bool
) -> None:
    program = solver(workshop, steps, last)
    if program.end:
        assert not doubt or "nobody named the iterations" in program.early_stop
    else:
        assert not program.early_stop


def test_iterations_with_names_raise_none(workshop: Any) -> None:
    assert not solver(workshop, [0.5] * K, None, named=True).early_stop


def test_a_last_step_that_an_exporter_dropped_raises_doubt(workshop: Any) -> None:
    """A factor of 1 is gone from the file, so that an iteration seems to end before it."""
    g = workshop.Graph()
    x = g.input("y", "batch", N)
    for k in range(K):
        x = g("Tanh", g("MatMul", x, g.weight("W", g.random("W", N, N))))
        if k < K - 1:
            x = g("Mul", x, g.weight(f"s{k}", OWN[k]))
    program = optimise(workshop.imported(g.model(x)).program)
    assert program.iterations == 1 or "nobody named the iterations" in program.early_stop
