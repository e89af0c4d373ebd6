"""Products are found, stand apart, and the program computes what it did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gpu_kernels.shared_weights import SOLVERS, K, Solver, inputs

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.gpu.launch_list import Elementwise, Task, launches
from unfoldc.kernels.gpu.product import Product, Rows, product_of
from unfoldc.kernels.gpu.product_form import product_form, shared_buffers
from unfoldc.kernels.gpu.split_products import split_products
from unfoldc.kernels.gpu_build import cuda_program
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.verify import verify_loops

F = "float32"
Shapes = Mapping[str, tuple[tuple[int, ...], str]]
ROW, J, R = Var("i"), Var("j"), Var("r")
ACC = Local("acc", F)


def load(name: str, *indices: Expr) -> Load:
    return Load(name, indices, F)


def program(shapes: Shapes, body: tuple[Stmt, ...], seed: int = 0) -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """The body, twice, over buffers of these shapes and spaces; inputs and constants are random, z comes out."""
    rng = np.random.default_rng(seed)
    buffers = {name: Buffer(name, F, shape, space) for name, (shape, space) in shapes.items()}
    values = {n: rng.standard_normal(b.shape).astype(F) for n, b in buffers.items() if b.space in ("input", "constant")}
    constants = {n: v for n, v in values.items() if buffers[n].space == "constant"}
    given = {n: v for n, v in values.items() if buffers[n].space == "input"}
    z = buffers["z"]
    variables = [Var(f"e{axis}") for axis in range(len(z.shape))]
    end: Stmt = Store("out", tuple(variables), load("z", *variables))
    for variable, extent in reversed(list(zip(variables, z.shape, strict=True))):
        end = For(variable.name, extent, (end,))
    buffers["out"] = Buffer("out", F, z.shape, "output")
    return LoopProgram(buffers, constants, tuple(given), ("out",), (), (Step(0, 2, body),), (end,)), given


def total(term: Expr, extent: int, start: Expr = Const(0.0, F), operator: str = "add") -> tuple[Stmt, ...]:  # noqa: B008
    return Let("acc", start, True), For("j", extent, (Assign("acc", Binary(operator, ACC, term, F)),))


def times(a: Expr, b: Expr) -> Binary:
    return Binary("mul", a, b, F)


def split(
    made: LoopProgram, given: dict[str, np.ndarray], shared: set[str], least: int = 1
) -> tuple[tuple[Task, ...], list[Product]]:
    """What an iteration of the split program launches, which is verified and computes the same; and its products."""
    verify_loops(made)
    apart = split_products(made, shared, least)
    verify_loops(apart)
    for name, right in run(made, given).items():
        np.testing.assert_allclose(run(apart, given)[name], right, rtol=1e-5, atol=1e-5)
    found = launches(apart, shared, least).steps[0][2]
    return found, [t for t in found if isinstance(t, Product)]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
def test_solvers_compute_the_same(solver: Solver, tmp_path: Path) -> None:
    model, optimised = load_program(solver.save(tmp_path))
    made = cuda_program(repeat_nests(lower(optimised)))
    shared = shared_buffers(made, model.inputs, model.outputs)
    apart = split_products(made, shared, 4)
    verify_loops(apart)
    y = inputs(solver, 1)
    for k in (0, 1, K):
        found = run(apart, {made.inputs[0]: y}, k)[made.outputs[0]]
        np.testing.assert_allclose(found.ravel(), solver.answer(y, k).ravel(), atol=1e-5)
    inside = launches(apart, shared, 4).steps[0][2]
    assert sum(isinstance(t, Product) for t in inside) == {"pgd": 2, "lista-untied": 2, "two-sided": 2}.get(
        solver.name, 1
    )
    if solver.name != "normalised":  # what is left has no sums of its own
        assert not any(isinstance(s, For) for t in inside if isinstance(t, Elementwise) for s in t.body)


SHAPES = {"y": ((7,), "input"), "z": ((5,), "state"), "w": ((5, 7), "constant")}


def test_a_product_goes_to_its_place_by_itself() -> None:
    body = (For("i", 5, (*total(times(load("w", ROW, J), load("y", J)), 7), Store("z", (ROW,), ACC))),)
    found, products = split(*program(SHAPES, body), {"w"})
    (product,) = products
    assert found == (product,)
    assert product == Product(Rows("w", 0, 7), False, Rows("y", 0, 7), Rows("z", 0, 5), 1, 5, 7, 1, False, F)


def test_weights_may_be_an_input_that_all_problems_share() -> None:
    body = (For("i", 5, (*total(times(load("w", ROW, J), load("y", J)), 7), Store("z", (ROW,), ACC))),)
    _, (product,) = split(*program({**SHAPES, "w": ((5, 7), "input")}, body), {"w"})
    assert product.weights == Rows("w", 0, 7)


def test_what_is_subtracted_has_a_sign_and_what_is_added_stays_outside() -> None:
    sums = total(times(load("y", J), load("w", ROW, J)), 7, load("b", ROW), "sub")
    body = (For("i", 5, (*sums, Store("z", (ROW,), ACC))),)
    found, products = split(*program({**SHAPES, "b": ((5,), "constant")}, body), {"w", "b"})
    assert [p.sign for p in products] == [-1] and isinstance(found[-1], Elementwise)


@pytest.mark.parametrize("operator", ["add", "sub"])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_products_go_into_one_sum(operator: str, swapped: bool) -> None:
    """Whichever was made first in the nest; a difference of 7 terms and of 4 computed ones."""
    shapes = {**SHAPES, "v": ((5, 4), "constant"), "b": ((5,), "constant")}
    half = times(load("y", J), Const(0.5, F))
    second: tuple[Stmt, ...] = (
        Let("more", Const(0.0, F), True),
        For("j", 4, (Assign("more", Binary("add", Local("more", F), times(half, load("v", ROW, J)), F)),)),
    )
    first = total(times(load("w", ROW, J), load("y", J)), 7)
    sums = (*second, *first) if swapped else (*first, *second)
    both = Binary(operator, ACC, Local("more", F), F)
    body = (For("i", 5, (*sums, Store("z", (ROW,), Binary("mul", both, load("b", ROW), F)))),)
    found, products = split(*program(shapes, body), {"w", "v", "b"})
    assert [(p.adds, p.sign) for p in products] == [(False, 1), (True, 1 if operator == "add" else -1)]
    assert len({p.out.buffer for p in products}) == 1 and len(found) == 4  # the factor 0.5 is a kernel before


def test_a_product_that_is_read_twice_keeps_its_own_sum() -> None:
    shapes = {**SHAPES, "v": ((5, 7), "constant")}
    other = For("j", 7, (Assign("more", Binary("add", Local("more", F), times(load("y", J), load("v", ROW, J)), F)),))
    sums = (*total(times(load("w", ROW, J), load("y", J)), 7), Let("more", Const(0.0, F), True), other)
    both = Binary("add", ACC, Local("more", F), F)
    body = (For("i", 5, (*sums, Store("z", (ROW,), times(both, ACC)))),)
    assert [p.adds for p in split(*program(shapes, body), {"w", "v"})[1]] == [False, False]


def test_weights_of_each_iteration_lie_behind_each_other() -> None:
    weights = load("w", Var("k"), J, ROW)
    body = (For("i", 5, (*total(times(weights, load("y", J)), 7), Store("z", (ROW,), ACC))),)
    _, (product,) = split(*program({**SHAPES, "w": ((2, 7, 5), "constant")}, body), {"w"})
    assert product.weights == Rows("w", 0, 5, 35) and product.transposed


def test_rows_of_a_problem_are_rows_of_the_product() -> None:
    """Z = Y W^T for a matrix Y of each problem; columns of Y are copied first."""
    shapes: Shapes = {"y": ((3, 7), "input"), "z": ((3, 5), "state"), "w": ((5, 7), "constant")}
    sums = total(times(load("y", R, J), load("w", ROW, J)), 7)
    body = (For("r", 3, (For("i", 5, (*sums, Store("z", (R, ROW), ACC))),)),)
    found, (product,) = split(*program(shapes, body), {"w"})
    assert (product.rows, product.x, product.out, len(found)) == (3, Rows("y", 0, 7), Rows("z", 0, 5), 1)
    shapes = {**shapes, "y": ((7, 3), "input")}
    sums = total(times(load("y", J, R), load("w", ROW, J)), 7)
    body = (For("r", 3, (For("i", 5, (*sums, Store("z", (R, ROW), ACC))),)),)
    found, (product,) = split(*program(shapes, body), {"w"})
    assert product.x == Rows("x0", 0, 7) and isinstance(found[0], Elementwise)


def test_what_is_multiplied_may_be_computed_and_is_kept_first() -> None:
    difference = Binary("sub", load("y", J), Const(0.5, F), F)
    sums: tuple[Stmt, ...] = (
        Let("acc", Const(0.0, F), True),
        For(
            "j",
            7,
            (Let("d", difference), Assign("acc", Binary("add", ACC, times(Local("d", F), load("w", ROW, J)), F))),
        ),
    )
    body = (For("i", 5, (*sums, Store("z", (ROW,), ACC))),)
    found, (product,) = split(*program(SHAPES, body), {"w"})
    assert product.x == Rows("x0", 0, 7) and len(found) == 2


def test_a_product_may_read_part_of_a_buffer_but_not_what_its_own_nest_writes() -> None:
    part = load("y", Binary("add", J, Const(2, "int32"), "int32"))
    shapes = {"y": ((9,), "input"), "z": ((5,), "state"), "w": ((5, 7), "constant")}
    body: tuple[Stmt, ...] = (For("i", 5, (*total(times(part, load("w", ROW, J)), 7), Store("z", (ROW,), ACC))),)
    _, (product,) = split(*program(shapes, body), {"w"})
    assert product.x == Rows("y", 2, 9)
    fill = For("i", 5, (Store("z", (ROW,), Const(1.0, F)),))
    over = For("i", 5, (*total(times(load("z", J), load("w", ROW, J)), 5), Store("z", (ROW,), ACC)))
    made, given = program({"y": ((5,), "input"), "z": ((5,), "state"), "w": ((5, 5), "constant")}, (fill, over))
    assert split(made, given, {"w"})[1] == []


@pytest.mark.parametrize("operator", ["max", "mul"])
def test_other_reductions_stay(operator: str) -> None:
    body = (
        For("i", 5, (*total(times(load("y", J), load("w", ROW, J)), 7, operator=operator), Store("z", (ROW,), ACC))),
    )
    assert split(*program(SHAPES, body), {"w"})[1] == []


def test_small_weights_and_those_of_each_problem_stay() -> None:
    body = (For("i", 5, (*total(times(load("y", J), load("w", ROW, J)), 7), Store("z", (ROW,), ACC))),)
    made, given = program(SHAPES, body)
    assert split(made, given, {"w"}, least=36)[1] == [] and split(made, given, {"y"})[1] == []
    assert split(made, given, {"w", "y"})[1] == []  # the same for all problems: nothing to gain
    assert product_of(Nest((), body), made.buffers, {"w", "z"}) is None  # nowhere to put one answer for each problem


def test_the_form_is_for_large_weights_and_large_batches(tmp_path: Path) -> None:
    model, optimised = load_program(SOLVERS[0].save(tmp_path))
    made = cuda_program(repeat_nests(lower(optimised)))
    assert product_form(made, model.inputs, model.outputs) is None
    forced = product_form(made, model.inputs, model.outputs, from_batch=3, least=4, tf32=True)
    assert forced is not None and (forced.from_batch, forced.tf32) == (3, True)


@pytest.mark.parametrize(("n", "earliest", "latest"), [(500, 32, 128), (128, 256, 8192)])
def test_large_weights_want_the_form_for_smaller_batches(n: int, earliest: int, latest: int) -> None:
    shapes = {"y": ((n,), "input"), "z": ((n,), "state"), "w": ((n, n), "constant")}
    body = (For("i", n, (*total(times(load("y", J), load("w", ROW, J)), n), Store("z", (ROW,), ACC))),)
    made, _ = program(shapes, body)
    found = product_form(made, [Port("y", F, (n,), True)], [Port("z", F, (n,), True)])
    assert found is not None and earliest <= found.from_batch <= latest
