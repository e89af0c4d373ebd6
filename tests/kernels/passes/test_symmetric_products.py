"""What holds for both ways to multiply with half of a symmetric matrix: in blocks of vectors and in triangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from symmetric_solver import K, answer, matrix, solver

from unfoldc.kernels import build
from unfoldc.kernels.loops import ITERATION, Buffer, Load, LoopProgram, Step, Var
from unfoldc.kernels.passes.half_products import half_products
from unfoldc.kernels.passes.triangle_products import triangle_products
from unfoldc.kernels.verify import verify_loops

Pass = Callable[[LoopProgram], LoopProgram]
LANES, REGISTERS = 4, 16


def in_blocks(program: LoopProgram) -> LoopProgram:
    bits = LANES * 8 * np.dtype(program.buffers["w"].dtype).itemsize
    return half_products(program, bits, REGISTERS, 0)


def in_triangles(program: LoopProgram) -> LoopProgram:
    return triangle_products(program, LANES)


both = pytest.mark.parametrize("halved", [in_blocks, in_triangles])


@both
def test_a_matrix_of_each_iteration(halved: Pass) -> None:
    w = matrix(18, "float64", K)
    at = (Var(ITERATION), Var("j"), Var("i"))
    changed = halved(solver(w, at=at))
    assert all(v.shape[0] == K for v in changed.constants.values()) and "w" not in changed.constants
    np.testing.assert_allclose(answer(changed), answer(solver(w, at=at)), atol=1e-14)


@both
def test_one_matrix_of_several_and_two_products_with_it(halved: Pass) -> None:
    program = solver(matrix(18, "float64", 3), at=(build.index(1), Var("i"), Var("j")))
    body = program.steps[0].body
    program = replace(program, steps=(Step(0, K, (*body, *body)),))
    changed = halved(program)
    assert len(changed.constants) == 1
    np.testing.assert_allclose(answer(changed), answer(program), atol=1e-14)


@both
def test_x_may_be_computed_on_the_way(halved: Pass) -> None:
    z = Load("z", (Var("j"),), "float64")
    program = solver(matrix(18, "float64"), build.add(build.mul(z, z), z))
    changed = halved(program)
    assert "w" not in changed.constants
    np.testing.assert_allclose(answer(changed), answer(program), atol=1e-14)


@both
def test_what_stays(halved: Pass) -> None:
    w = matrix(20, "float32")
    far = w.copy()
    far[3, 5] += np.float32(1e-5) * np.abs(w).max()
    for program in (
        solver(far),
        solver(np.stack([w, far]), at=(Var(ITERATION), Var("i"), Var("j"))),
        solver(w, Load("z", (Var("i"),), "float32")),
        solver(w, Load("t", (Var("j"),), "float32")),  # the rows before were stored there
        solver(np.pad(w, 1, mode="edge"), at=(Var("i"), Var("i"))),
    ):
        assert halved(program) is program


@both
def test_a_part_of_a_larger_matrix_stays(halved: Pass) -> None:
    program = solver(matrix(20, "float32"))
    large = {"w": Buffer("w", "float32", (24, 24), "constant")}
    program = replace(program, buffers={**program.buffers, **large}, constants={"w": matrix(24, "float32")})
    verify_loops(program)
    assert halved(program) is program


@both
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("order", [19, 20])
def test_nan_and_infinity_reach_what_they_reached(order: int, value: float, halved: Pass) -> None:
    """An infinity times a zero of the matrix is NaN; what fills up blocks or triangles makes none."""
    w = matrix(order, "float32")
    w[2:9, 2:9] = 0
    for place in (0, 4, order - 1):
        y = np.linspace(-1, 1, order)
        y[place] = value
        program = replace(solver(w), steps=(replace(solver(w).steps[0], count=1),))
        wanted, found = answer(program, y), answer(halved(program), y)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        np.testing.assert_allclose(found, wanted, atol=1e-6)
