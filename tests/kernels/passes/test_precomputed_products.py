"""The order of products: joined where that is cheaper, moved where they do not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes.precomputed_products import precomputed_products
from unfoldc.kernels.program import Program

K, N = 8, 10
FORMS = ("x - q", "q - x", "x + q", "alone", "scaled", "columns", "one row")


def gradient(workshop: Any, structures: Any, form: str, m: int, count: int = K) -> Program:
    """x <- tanh(x - mu_k Aᵀ(A x - y)) and its variants."""
    g = workshop.Graph()
    left = form == "columns"
    y = g.input("y", *((m, 3) if left else (1, m) if form == "one row" else ("batch", m)))
    x = g.input("x", *((N, 3) if left else ("batch", N)))
    a, turned = g.weight("A", g.random("A", m, N)), g.weight("A'", g.random("A", m, N).T)
    for g.k in range(count):
        mu = g.weight(f"mu{g.k}", 0.1 + 0.01 * g.k)
        r = g("MatMul", a, x) if left else g("MatMul", x, turned)
        if form != "alone":
            operands = (y, r) if form == "q - x" else (r, y)
            r = g("Add" if form == "x + q" else "Sub", *operands)
        if form == "scaled":
            r = g("Mul", mu, r)
        step = g("MatMul", turned, r) if left else g("MatMul", r, a)
        x = g("Tanh", g("Sub", x, step if form == "scaled" else g("Mul", mu, step)))
    program: Program = structures.prepared(workshop, g.model(x))
    return program


@pytest.mark.parametrize("form", FORMS)
def test_two_products_become_one(workshop: Any, structures: Any, form: str) -> None:
    before = gradient(workshop, structures, form, m=3 * N)
    after = structures.compared(before, precomputed_products)
    assert structures.operators(after).count("MatMul") == 1
    assert [n.operator for n in after.begin].count("MatMul") == (form != "alone")
    assert cost(after).iterate_flops[0] < 0.3 * cost(before).iterate_flops[0]


@pytest.mark.parametrize(("m", "count", "joined"), [(6, K, False), (9, K, True), (9, 2, False), (30, 1, False)])
def test_only_where_it_is_cheaper(workshop: Any, structures: Any, m: int, count: int, joined: bool) -> None:
    """Below 0.6 n measurements the two products are, and where B y is used too few times to pay for itself."""
    before = gradient(workshop, structures, "x - q", m, count)
    assert (precomputed_products(before).segments != before.segments) == joined


@pytest.mark.parametrize("size", [1e20, 1e-22, np.inf])
def test_not_where_the_joined_matrix_would_leave_the_range_of_its_type(
    workshop: Any, structures: Any, size: float
) -> None:
    """A x and B (A x) may be in range for an x that is not of size 1."""
    g = workshop.Graph(dtype="float32")
    x = g.input("x", "batch", N)
    a = g.weight("A", size * g.random("A", N, 3 * N))
    b = g.weight("B", size * g.random("B", 3 * N, N))
    for g.k in range(K):
        x = g("Tanh", g("MatMul", g("MatMul", x, a), b))
    before = structures.prepared(workshop, g.model(x))
    assert precomputed_products(before).segments == before.segments


@pytest.mark.parametrize("kept", ["residual", "product", "changing"])
def test_what_others_need_stays(workshop: Any, structures: Any, kept: str) -> None:
    g = workshop.Graph()
    y, x = g.input("y", "batch", 3 * N), g.input("x", "batch", N)
    a, turned = g.weight("A", g.random("A", 3 * N, N)), g.weight("A'", g.random("A", 3 * N, N).T)
    for g.k in range(K):
        product = g("MatMul", x, turned)
        other = g("MatMul", x, g.weight("C", g.random("C", N, 3 * N)))
        residual = g("Sub", product, g("Tanh", other) if kept == "changing" else y)
        norm = g("ReduceMean", {"residual": residual, "product": product, "changing": x}[kept], keepdims=0)
        x = g("Tanh", g("Add", g("MatMul", residual, a), norm))
    before = structures.prepared(workshop, g.model(x))
    assert precomputed_products(before).segments == before.segments


@pytest.mark.parametrize("form", ["factor", "sum"])
def test_products_that_do_not_change_are_freed(workshop: Any, structures: Any, form: str) -> None:
    """B (mu_k y), and a Gemm that adds a product with y to the state."""
    g = workshop.Graph()
    y, x = g.input("y", "batch", 4), g.input("x", "batch", N)
    b, w = g.weight("B", g.random("B", 4, N)), g.weight("W", g.random("W", N, N))
    for g.k in range(K):
        z = g("MatMul", x, w)
        if form == "sum":
            x = g("Tanh", g("Gemm", y, b, z, alpha=0.5, beta=0.75))
        else:
            moved = g("MatMul", g("Mul", y, g.weight(f"mu{g.k}", 0.1 * g.k)), b)
            x = g("Tanh", g("Add", moved, z))
    before = structures.prepared(workshop, g.model(x))
    after = structures.compared(before, precomputed_products)
    assert structures.operators(after).count("MatMul") == 1 and "Gemm" not in structures.operators(after)
    assert len({"MatMul", "Gemm"} & {n.operator for n in after.begin}) == 1
    assert np.isfinite(cost(after).iterate_flops[0])
