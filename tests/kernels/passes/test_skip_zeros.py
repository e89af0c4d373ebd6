from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import For, LoopProgram, Store
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.skip_zeros import skip_zeros
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.verify import verify_loops

M, N, K = 9, 40, 3


def ista(workshop: Any, value: float = 0.3) -> LoopProgram:
    """x = soft(W2 x + W1 y), dense W2 but for what `value` puts into one place."""
    g = workshop.Graph()
    y = g.input("y", "batch", M)
    w2 = g.random("W2", N, N)
    w2[3, 5] = value
    w1, w2 = g.weight("W1", g.random("W1", M, N)), g.weight("W2", w2)
    x, theta = g.zeros(y, N), g.weight("theta", 0.9)
    for g.k in range(K):
        x = g.layer(x, y, w1, w2, theta)
    g.k = None
    _, program = load_program(workshop.save(g.model(g("Neg", x))))
    return lower(program)


def lists(program: LoopProgram) -> list[str]:
    inside = build.statements(program.steps[0].body)
    return sorted({s.buffer for s in inside if isinstance(s, Store) and s.buffer.startswith("nonzero")})


@pytest.mark.parametrize("bits", [0, 128, 512])
def test_every_iterate_is_the_same(bits: int, workshop: Any) -> None:
    plain = ista(workshop)
    sparse = skip_zeros(plain, shortest=8)
    assert len(lists(sparse)) == 1 and not lists(plain)
    if bits:
        sparse = vector_results(sparse, bits, 24)
    verify_loops(sparse)
    y = {plain.inputs[0]: np.random.default_rng(3).standard_normal((1, M)).astype("float32")}
    for k in range(K + 1):
        (want,), (got,) = run(plain, y, k).values(), run(sparse, y, k).values()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert 0 < np.count_nonzero(want) < N


def test_nan_is_no_zero(workshop: Any) -> None:
    sparse = skip_zeros(ista(workshop), shortest=8)
    (got,) = run(sparse, {sparse.inputs[0]: np.full((1, M), np.nan, "float32")}).values()
    assert np.isnan(got).all()


def test_weights_that_make_nan_of_zero_are_not_skipped(workshop: Any) -> None:
    program = ista(workshop, float("inf"))
    assert skip_zeros(program, shortest=8) == program


def test_short_sums_are_left(workshop: Any) -> None:
    program = ista(workshop)
    assert skip_zeros(program, shortest=N + 1) == program


def test_only_as_many_terms_as_there_are_numbers(workshop: Any) -> None:
    """The loop over the list ends where the list does."""
    sparse = skip_zeros(ista(workshop), shortest=8)
    loops = [s for s in build.statements(sparse.steps[0].body) if isinstance(s, For)]
    assert sum(not isinstance(s.extent, int) for s in loops) == 1
