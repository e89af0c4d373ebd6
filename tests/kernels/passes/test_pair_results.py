"""Two products with halves of vectors become one; what cannot stand side by side stays apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Buffer,
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
from unfoldc.kernels.passes.pair_results import pair_results
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.verify import verify_loops

F, K, N, M, C = "float32", 4, 6, 5, 4
I, J, COLUMN = Var("i"), Var("j"), Var("c")  # noqa: E741
SHAPES = {"x": (M, C), "y": (M, C), "u": (N, C), "v": (N, C)}


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, F)


def summed(name: str, term: Expr, over: int, start: float = 0) -> tuple[Stmt, ...]:
    return (
        Let(name, build.literal(start, F), mutable=True),
        For("j", over, (Assign(name, build.add(Local(name, F), term)),)),
    )


def around(rows: int, *body: Stmt) -> Nest:
    return Nest(("by hand",), (For("i", rows, (For("c", C, body),)),))


def products(target: str, first: str, second: str, operator: str, weights: str = "hg", start: float = 0) -> Nest:
    """target = h first + g second, or minus."""
    one, other = (Local(f"{target}{n}", F) for n in range(2))
    h, g = weights[0], weights[1]
    return around(
        N,
        *summed(one.name, build.mul(at(h, I, J), at(first, J, COLUMN)), M),
        *summed(other.name, build.mul(at(second, J, COLUMN), at(g, I, J)), M, start),
        Store(target, (I, COLUMN), build.binary(operator, one, other)),
    )


def back(target: str, source: str, matrix: int, operator: str) -> Nest:
    """target = (source hᵀ - d[:, :, matrix]) scaled by 0.1; d, an input, is read across its rows."""
    name = f"{target}{source}"
    value: Expr = build.binary(operator, Local(name, F), at("d", COLUMN, I, build.index(matrix)))
    return around(
        M,
        *summed(name, build.mul(at("h", J, I), at(source, J, COLUMN)), N),
        Store(target, (I, COLUMN), build.mul(build.literal(0.1, F), value)),
    )


BODY = (
    products("u", "x", "y", "sub"),
    products("v", "y", "x", "add"),
    back("x", "u", 0, "add"),
    back("y", "v", 1, "sub"),
)


def program(*body: Stmt) -> LoopProgram:
    buffers = {n: Buffer(n, F, shape, "state" if n in "xy" else "scratch") for n, shape in SHAPES.items()}
    inputs = {"h": (N, M), "g": (N, M), "d": (C, M, 2)}
    buffers |= {n: Buffer(n, F, shape, "input") for n, shape in inputs.items()}
    buffers["out"] = Buffer("out", F, (2, M, C), "output")
    begin = [around(M, Store(n, (I, COLUMN), build.mul(build.literal(f, F), at("d", COLUMN, I, build.index(q)))))
             for n, f, q in (("x", 0.5, 0), ("y", 2.0, 1))]  # fmt: skip
    end = [around(M, Store("out", (build.index(q), I, COLUMN), at(n, I, COLUMN))) for q, n in enumerate("xy")]
    return LoopProgram(buffers, {}, tuple(inputs), ("out",), tuple(begin), (Step(0, K, body),), tuple(end))


def same(plain: LoopProgram, bits: int = 256) -> LoopProgram:
    """The program with pairs, and those with vectors, after a look at whether both give the same."""
    changed = pair_results(plain, bits)
    rng = np.random.default_rng(4)
    inputs = {n: rng.standard_normal(plain.buffers[n].shape).astype(F) for n in plain.inputs}
    for made in (changed, vector_results(changed, bits, 12)):
        verify_loops(made)
        for k in (1, K):
            np.testing.assert_allclose(
                run(made, inputs, k)["out"], run(plain, inputs, k)["out"], rtol=1e-4, atol=1e-5, err_msg=str(k)
            )
    return changed


def test_a_complex_product_and_back() -> None:
    changed = same(program(*BODY))
    assert len(changed.steps[0].body) == 2
    assert changed.buffers["x_y"] == Buffer("x_y", F, (M, 2 * C), "state")
    assert changed.buffers["u_v"].shape == (N, 2 * C)
    assert not {"x", "y", "u", "v"} & changed.buffers.keys()
    np.testing.assert_array_equal(changed.constants["signs0"], [1, 1, 1, 1, -1, -1, -1, -1])


def test_both_sums_grow_in_one_loop_of_vectors() -> None:
    changed = vector_results(same(program(*BODY)), 256, 12)
    (first, *_) = [s for s in build.statements(changed.steps[0].body) if isinstance(s, For) and s.kind == "lanes"]
    assert first.extent == 2 * C
    loops = [s for s in first.body if isinstance(s, For)]
    assert [s.extent for s in loops] == [M]
    assert sum(isinstance(s, Assign) for s in loops[0].body) == 2 * N


def test_terms_are_found_in_another_order() -> None:
    """v = g x + h y instead of h y + g x."""
    turned = products("v", "x", "y", "add", weights="gh")
    assert len(same(program(BODY[0], turned, *BODY[2:])).steps[0].body) == 2


def test_what_is_computed_from_halves_joins_them() -> None:
    scaled = [around(N, Store(n, (I, COLUMN), build.mul(build.literal(0.5, F), at(n, I, COLUMN)))) for n in "uv"]
    changed = same(program(*BODY[:2], *scaled, *BODY[2:]))
    assert len(changed.steps[0].body) == 3
    assert len(same(program(*BODY[:2], *scaled[:1], *BODY[2:])).steps[0].body) == 3


def test_without_products_nothing_is_joined() -> None:
    scaled = [around(M, Store(n, (I, COLUMN), build.mul(build.literal(0.5, F), at(n, I, COLUMN)))) for n in "xy"]
    plain = program(*scaled)
    assert same(plain) is plain


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_rows_that_fill_a_vector_stay_apart(bits: int) -> None:
    changed = same(program(*BODY), bits)
    assert (len(changed.steps[0].body) == 2) == (bits > 128)


def test_the_second_may_need_the_first() -> None:
    """v is made of u, or x is overwritten between the two."""
    needs = products("v", "y", "x", "add")
    needs = Nest((), tuple(build.map_stmt(s, lambda e: at("u", I, COLUMN) if e == at("g", I, J) else None)
                           for s in needs.body))  # fmt: skip
    assert len(same(program(BODY[0], needs)).steps[0].body) == 2
    assert len(same(program(BODY[0], BODY[2], BODY[1])).steps[0].body) == 3


@pytest.mark.parametrize(
    "second",
    [
        products("v", "y", "x", "add", weights="gh"),  # other weights for the same matrix
        products("v", "y", "y", "add"),  # a matrix that both read
        products("v", "y", "x", "mul"),
        products("v", "y", "x", "add", start=1),
        around(
            N, *summed("a", build.mul(at("h", I, J), at("y", J, COLUMN)), M), Store("v", (I, COLUMN), Local("a", F))
        ),
    ],
    ids=["weights", "same matrix", "operator", "start", "fewer sums"],
)
def test_others_stay_apart(second: Nest) -> None:
    plain = program(BODY[0], second)
    assert same(plain) is plain


def test_a_copy_needs_iterations_and_what_they_leave_alone() -> None:
    short = replace(program(*BODY), steps=(Step(0, 2, BODY),))
    assert not [n for n in pair_results(short, 256).buffers if n.startswith("pair_")]
    assert [n for n in pair_results(program(*BODY), 256).buffers if n.startswith("pair_")] == ["pair_0"]


def test_one_sum_has_one_partner() -> None:
    """u is the square of a product, v a product of two."""
    a, b = (build.mul(at("h", I, J), at(n, J, COLUMN)) for n in "xy")
    square = Store("u", (I, COLUMN), build.mul(Local("a", F), Local("a", F)))
    product = Store("v", (I, COLUMN), build.mul(Local("b", F), Local("d", F)))
    twice = build.mul(at("g", I, J), at("y", J, COLUMN))
    plain = program(
        around(N, *summed("a", a, M), square), around(N, *summed("b", b, M), *summed("d", twice, M), product)
    )
    assert same(plain) is plain


def test_results_in_different_spaces_leave_nothing_behind() -> None:
    plain = program(*BODY[:2])
    fills = around(N, Store("v", (I, COLUMN), build.literal(0, F)))
    buffers = {**plain.buffers, "v": Buffer("v", F, (N, C), "state")}
    plain = replace(plain, buffers=buffers, begin=(*plain.begin, fills))
    assert same(plain) is plain


def test_a_half_does_not_pass_what_writes_the_whole() -> None:
    """x is halved before, y behind the two are made anew."""
    first, last = (around(M, Store(n, (I, COLUMN), build.mul(build.literal(0.5, F), at(n, I, COLUMN)))) for n in "xy")
    changed = same(program(*BODY[:2], first, *BODY[2:], last))
    assert len(changed.steps[0].body) == 4


def test_values_that_no_product_pairs_stay_apart() -> None:
    plain = program(*BODY, *(around(M, Store(n, (I, COLUMN), at(x, I, COLUMN))) for n, x in (("p", "x"), ("q", "y"))))
    buffers = {**plain.buffers, **{n: Buffer(n, F, (M, C), "scratch") for n in "pq"}}
    assert len(same(replace(plain, buffers=buffers)).steps[0].body) == 4
