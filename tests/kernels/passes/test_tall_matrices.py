"""Results of products with few columns are stored column by column, and what stands beside them with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.tall_matrices import tall_matrices
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.verify import verify_loops

F, N, C = "float32", 12, 3
I, J, COLUMN = Var("i"), Var("j"), Var("c")  # noqa: E741


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, F)


def around(*body: Stmt) -> Nest:
    return Nest(("by hand",), (For("i", N, (For("c", C, body),)),))


def program() -> LoopProgram:
    """t = x a, x = x + 0.1 t; z, of the same shape, is filled and summed only."""
    term = build.mul(at("x", I, J), at("a", J, COLUMN))
    product = around(
        Let("acc", build.literal(0, F), mutable=True),
        For("j", C, (Assign("acc", build.add(Local("acc", F), term)),)),
        Store("t", (I, COLUMN), Local("acc", F)),
    )
    step = build.mul(build.literal(0.1, F), at("t", I, COLUMN))
    update = around(Store("x", (I, COLUMN), build.add(at("x", I, COLUMN), step)))
    fill = around(Store("z", (I, COLUMN), at("a", COLUMN, COLUMN)))
    buffers = {
        "y": Buffer("y", F, (N, C), "input"),
        "a": Buffer("a", F, (C, C), "input"),
        "x": Buffer("x", F, (N, C), "state"),
        "t": Buffer("t", F, (N, C), "scratch"),
        "z": Buffer("z", F, (N, C), "scratch"),
        "out": Buffer("out", F, (N, C), "output"),
    }
    begin = (around(Store("x", (I, COLUMN), at("y", I, COLUMN))),)
    end = (around(Store("out", (I, COLUMN), at("x", I, COLUMN))),)
    return LoopProgram(buffers, {}, ("y", "a"), ("out",), begin, (Step(0, 3, (product, update, fill)),), end)


def test_products_and_their_neighbours_are_transposed() -> None:
    plain = program()
    changed = tall_matrices(plain, 256)
    shapes = {n: b.shape for n, b in changed.buffers.items()}
    assert shapes["x"] == shapes["t"] == (C, 16)  # whole vectors
    assert shapes["z"] == shapes["y"] == shapes["out"] == (N, C)
    rng = np.random.default_rng(5)
    inputs = {n: rng.standard_normal(plain.buffers[n].shape).astype(F) for n in plain.inputs}
    vectors = vector_results(changed, 256, 6)
    for made in (changed, vectors):
        verify_loops(made)
        np.testing.assert_allclose(run(made, inputs)["out"], run(plain, inputs)["out"], rtol=1e-5)
    found = [s.extent for s in build.statements(vectors.steps[0].body) if isinstance(s, For) and s.kind == "lanes"]
    assert max(map(str, found)) == "8"


def test_wide_ones_and_short_ones_stay() -> None:
    plain = program()
    assert tall_matrices(plain, 128) is plain  # three columns are most of a vector of four
    assert tall_matrices(plain, 512) is plain  # twelve rows are no vector of sixteen
    without = replace(plain, steps=(Step(0, 3, plain.steps[0].body[1:]),))
    assert tall_matrices(without, 256) is without
