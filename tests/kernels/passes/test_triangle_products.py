from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from symmetric_solver import K, answer, matrix, solver

from unfoldc.kernels import build
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.triangle_products import triangle_products
from unfoldc.kernels.passes.unroll_results import unroll_results
from unfoldc.kernels.passes.unroll_terms import unroll_terms


def halved(program: LoopProgram, rows: int = 4) -> LoopProgram:
    return triangle_products(program, rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("order", "rows"), [(8, 4), (12, 6), (19, 4), (16, 8), (23, 8), (5, 2)])
def test_the_product_stays_and_half_is_read(order: int, rows: int, dtype: str) -> None:
    program = solver(matrix(order, dtype))
    changed = halved(program, rows)
    (stored,) = changed.constants.values()
    assert stored.size <= order * (order + 1) // 2 + rows * (order // rows + 1)
    wanted = np.linspace(-1, 1, order)
    for _ in range(K):
        wanted = wanted - program.constants["w"].astype(np.float64) @ wanted / 2
    np.testing.assert_allclose(answer(changed), wanted, rtol=0, atol=2e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("order", [16, 19])
def test_terms_keep_their_order(order: int) -> None:
    """Not one bit changes."""
    program = solver(matrix(order, "float32"))
    np.testing.assert_array_equal(answer(halved(program)), answer(program))


def test_an_element_is_read_once_for_two_products() -> None:
    changed = halved(solver(matrix(16, "float32")))
    (columns,) = [s for s in build.statements(changed.steps[0].body) if isinstance(s, For) and s.var.endswith("_j")]
    loads = [e for top in build.expressions(columns) for e in build.walk(top) if isinstance(e, Load)]
    matrices = [e for e in loads if e.buffer in changed.constants]
    assert len(matrices) == 4 * 4 and len(loads) == len(matrices) + 4 * 2  # with x[j] and y[j] of four columns


def test_a_rounding_is_no_asymmetry() -> None:
    w = matrix(20, "float32")
    rounding = np.float32(0.9) * np.finfo("float32").eps * np.abs(w).max()
    w[0, 4], w[4, 0] = 0, rounding
    changed = halved(solver(w))
    (stored,) = changed.constants.values()
    assert "w" not in changed.constants and (stored == rounding / 2).any()  # what is between them
    np.testing.assert_allclose(answer(changed), answer(solver(w)), atol=1e-6)


def test_a_matrix_that_something_else_reads_stays() -> None:
    """Its half would come on top of it."""
    program = solver(matrix(16, "float32"))
    copy = Store("out", (Var("i"),), Load("w", (build.index(0), Var("i")), "float32"))
    assert halved(replace(program, end=(For("i", 16, (copy,)),))).constants.keys() == {"w"}


def test_one_block_of_rows_stays() -> None:
    program = solver(matrix(7, "float32"))
    assert halved(program) is program


def behind(program: LoopProgram, *nests: Nest) -> LoopProgram:
    """The solver with these nests behind its product, instead of its own step."""
    buffers = {**program.buffers, "o": Buffer("o", "float32", program.buffers["z"].shape, "scratch")}
    return replace(program, buffers=buffers, steps=(Step(0, K, (program.steps[0].body[0], *nests)),))


E = Var("e")


def step(to: str, at: Expr = E, read: Expr = E) -> Nest:
    value = build.sub(Load("z", (Var("e"),), "float32"), Load("t", (read,), "float32"))
    return Nest((f"step to {to}",), (For("e", 19, (Store(to, (at,), value),)),))


BACK = Nest(("back",), (For("i", 19, (Store("z", (Var("i"),), Load("o", (Var("i"),), "float32")),)),))
LAST = build.sub(build.index(18), Var("e"))


def test_what_follows_writes_over_x_block_by_block() -> None:
    """The result and its copy are kept nowhere else; later passes leave the blocks alone."""
    for program in (solver(matrix(19, "float32")), behind(solver(matrix(19, "float32")), step("o"), BACK)):
        changed = halved(results_fused(program))
        stored = {s.buffer for s in build.statements(changed.steps[0].body) if isinstance(s, Store)}
        assert stored == {"half0", "z"}
        after = changed.mapped(lambda body: unroll_terms(unroll_results(block_rows(body, 4), 4), 8))
        assert changed.steps[0].body[1] in after.steps[0].body
        for found in (changed, after):
            np.testing.assert_array_equal(answer(found), answer(program))


@pytest.mark.parametrize("nest", [step("z", at=LAST), step("z", read=LAST)])
def test_what_writes_elsewhere_or_needs_other_results_waits(nest: Nest) -> None:
    program = behind(solver(matrix(19, "float32")), nest)
    changed = halved(program)
    assert nest in changed.steps[0].body and "w" not in changed.constants
    np.testing.assert_array_equal(answer(changed), answer(program))
