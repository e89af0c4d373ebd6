"""Values laid out with a long axis last: the same iterates, in full vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import For, LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.long_axes import long_axes_last
from unfoldc.kernels.passes.vector_cost import vector_cost
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.verify import verify_loops

BITS, LANES, K = 128, 4, 3


def vectorised(program: LoopProgram) -> LoopProgram:
    return vector_results(program, BITS, 6)


def widths(program: LoopProgram) -> set[int]:
    """How many lanes the loops over lanes in the iterations have."""
    parts = [s for step in program.steps for s in build.statements(step.body)]
    return {int(str(s.extent)) for s in parts if isinstance(s, For) and s.kind == "lanes"}


def network(g: Any, x: str, k: int) -> str:
    """A small network for each coordinate of x (batch, n, c): c values become h, then c again."""
    n, h = g.sizes[1], g.hidden
    V, b = g.weight("V", g.random("V", n, h)), g.weight("b", g.random("b", h))
    hidden = g("Tanh", g("Add", g("MatMul", x, V), b))
    return str(g("Add", x, g("MatMul", hidden, g.weight("W", g.random("W", h, n)))))


def network_and_product(g: Any, x: str, k: int) -> str:
    """Sums over the coordinates as well."""
    n = g.sizes[0]
    return str(g("MatMul", g.weight("A", g.random("A", n, n)), network(g, x, k)))


def both_ways(g: Any, x: str, k: int) -> str:
    """The same values row by row and column by column."""
    n, c = g.sizes
    other = g("Transpose", x, perm=[0, 2, 1])
    squares = g("MatMul", other, g.weight("A", g.random("A", n, c)))
    return str(g("Tanh", g("MatMul", x, squares)))


def made(workshop: Any, step: Callable[..., str], sizes: tuple[int, int], hidden: int = 5) -> LoopProgram:
    g = workshop.Graph()
    g.sizes, g.hidden = sizes, hidden
    x = g.input("x", "batch", *sizes)
    for g.k in range(K):
        x = step(g, x, g.k)
    g.k = None
    _, program = load_program(workshop.save(g.model(g("Neg", x))))
    return lower(program)


def same(plain: LoopProgram, changed: LoopProgram) -> None:
    verify_loops(changed)
    rng = np.random.default_rng(3)
    inputs = {n: rng.standard_normal(plain.buffers[n].shape).astype("float32") for n in plain.inputs}
    for k in range(K + 1):
        want, got = run(plain, inputs, k), run(changed, inputs, k)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=f"{name} after {k}")


@pytest.mark.parametrize("sizes", [(12, 3), (16, 2), (13, 5), (3, 3), (4, 12)])
@pytest.mark.parametrize("step", [network, network_and_product, both_ways])
def test_iterates_stay(step: Callable[..., str], sizes: tuple[int, int], workshop: Any) -> None:
    plain = made(workshop, step, sizes)
    changed = long_axes_last(plain, BITS, vectorised)
    same(plain, vectorised(changed))
    assert vector_cost(vectorised(changed)) <= vector_cost(vectorised(plain))


def test_coordinates_fill_vectors_that_three_values_do_not(workshop: Any) -> None:
    plain = made(workshop, network, (12, 3))
    changed = long_axes_last(plain, BITS, vectorised)
    moved = {n for n, b in changed.buffers.items() if b.shape != plain.buffers[n].shape}
    assert {plain.buffers[n].shape for n in moved} == {(1, 12, 3), (1, 12, 5)}
    assert {changed.buffers[n].shape for n in moved} == {(1, 3, 12), (1, 5, 12)}
    assert {plain.buffers[n].space for n in moved} == {"state", "scratch"}
    assert widths(vectorised(plain)) - {LANES} and widths(vectorised(changed)) == {LANES}


def test_what_does_not_pay_stays(workshop: Any) -> None:
    full = made(workshop, network, (12, 8), hidden=4)
    assert long_axes_last(full, BITS, vectorised) == full
    plain = made(workshop, network, (12, 3))
    assert long_axes_last(plain, BITS, lambda program: program) == plain  # nobody makes vectors of it
