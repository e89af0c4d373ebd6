from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, For, Let, Load, Local, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.passes.unroll_results import unroll_results
from unfoldc.kernels.verify import verify_loops

F = "float32"


def cumulated(n: int) -> LoopProgram:
    """y[i] = (x[0] + ... + x[i])²: a run needs what the one before it made."""
    i = Var("i")
    x = Load("x", (i,), F)
    loop = For("i", n, (
        Assign("acc", build.add(Local("acc", F), x)),
        Let("v", build.mul(Local("acc", F), Local("acc", F))),
        Store("y", (i,), Local("v", F)),
    ))  # fmt: skip
    buffers = {"x": Buffer("x", F, (n,), "input"), "y": Buffer("y", F, (n,), "output")}
    nest = Nest(("sum",), (Let("acc", build.literal(0, F), mutable=True), loop))
    return LoopProgram(buffers, {}, ("x",), ("y",), (), (Step(0, 1, ()),), (nest,))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 6, 8, 11])
def test_runs_keep_their_order(n: int) -> None:
    program = cumulated(n)
    found = program.mapped(lambda body: unroll_results(body, 4))
    verify_loops(found)
    x = np.random.default_rng(n).standard_normal(n).astype(F)
    np.testing.assert_allclose(run(found, {"x": x})["y"], np.cumsum(x) ** 2, rtol=1e-4)


def test_a_long_loop_is_shorter_and_is_not_to_be_written_out_again() -> None:
    found = unroll_results(cumulated(11).end, 4)
    loops = [s for s in build.statements(found) if isinstance(s, For)]
    assert [(s.extent, s.kind) for s in loops] == [(2, "rolled"), (3, "serial")]
    assert sum(isinstance(s, Store) for s in loops[0].body) == 4


def test_sums_and_long_bodies_stay(products: Any) -> None:
    body = products.product(8, 16, transposed=False).steps[0].body
    assert unroll_results(body, 4) == body
    loop = For("i", 8, tuple(Store("y", (Var("i"),), build.literal(n, F)) for n in range(9)))
    assert unroll_results((loop,), 4) == (loop,)
