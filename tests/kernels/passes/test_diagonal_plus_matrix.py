"""(G + rho I) x in the ways that exporters write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.passes.diagonal_plus_matrix import diagonal_plus_matrix
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program

K, N = 3, 8
I = np.eye(N)  # noqa: E741


def matrix(g: Any, form: str, G: str, x: str) -> str:
    """M = G + D; every iteration makes its own."""
    mask = g.weight("eye", I)
    rho = g.weight(f"rho{g.k}", 0.1 + 0.1 * g.k)
    own = g("Abs", x)
    choose = g("Cast", mask, to=9)
    if form == "numbers":
        return str(g("Add", G, g("Mul", rho, mask)))
    if form == "first":
        return str(g("Add", g.weight(f"D{g.k}", (0.2 + 0.1 * g.k) * I), G))
    if form == "less":
        return str(g("Sub", G, g("Mul", rho, mask)))
    if form == "taken from":
        return str(g("Sub", g.weight("two", 2 * I), G))
    if form == "vector":
        return str(g("Add", G, g.weight(f"D{g.k}", np.diag(np.arange(1.0, N + 1) * (0.1 + 0.1 * g.k)))))
    if form == "choice":
        return str(g("Where", choose, g("Add", G, g("Unsqueeze", own, g.weight("-1", [-1], "int64"))), G))
    if form == "embedded":
        row = g("Unsqueeze", own, g.weight("-2", [-2], "int64"))
        return str(g("Add", G, g("Where", choose, row, g.weight("none", 0.0))))
    column = g("Unsqueeze", own, g.weight("-1", [-1], "int64"))
    return str(g("Add", g("Mul", mask, column), G))


FORMS = ("numbers", "first", "less", "taken from", "vector", "choice", "embedded", "scaled")


def solver(
    workshop: Any, structures: Any, form: str, side: str = "column", read: str = "", bare: bool = False
) -> Program:
    """x <- tanh(M x / 4) with M on either side of x; `bare`: x <- M x / 4."""
    g = workshop.Graph()
    G, x = g.input("G", "batch", N, N), g.input("x", "batch", N)
    for g.k in range(K):
        M = matrix(g, form, G, x)
        last, third = g.weight("-1", [-1], "int64"), g.weight("-2", [-2], "int64")
        if side == "row":
            z = g("Squeeze", g("MatMul", g("Unsqueeze", x, third), M), third)
        else:
            turned = g("Transpose", M, perm=[0, 2, 1]) if side == "transposed" else M
            z = g("Squeeze", g("MatMul", turned, g("Unsqueeze", x, last)), last)
        if read == "diagonal":
            z = g("Div", z, g("Squeeze", g("Einsum", M, equation="bii->bi"), g.weight("nothing", [], "int64")))
        if read == "solve":
            z = g("Add", z, g("Squeeze", g("Solve", M, g("Unsqueeze", x, last), domain="unfoldc"), last))
        x = g("Mul", z, g.weight("quarter", 0.25))
        x = x if bare else g("Tanh", x)
    program: Program = structures.prepared(workshop, g.model(x))
    return program


def dense(program: Program) -> int:
    """How many values as large as the matrix are computed or stored as constants, all iterations together."""
    made = sum(program.types[o].size >= N * N for n in program.nodes() for o in n.outputs if n.operator != "Transpose")
    return made + sum(v.size >= N * N for v in program.constants.values())


@pytest.mark.parametrize("side", ["column", "row", "transposed"])
@pytest.mark.parametrize("form", FORMS)
def test_the_matrix_is_never_made(workshop: Any, structures: Any, form: str, side: str) -> None:
    before = solver(workshop, structures, form, side)
    after = structures.compared(before, diagonal_plus_matrix)
    assert dense(before) > 0 and dense(after) == 0


def test_its_diagonal_may_be_read_too(workshop: Any, structures: Any) -> None:
    before = solver(workshop, structures, "numbers", read="diagonal")
    after = structures.compared(before, diagonal_plus_matrix)
    product = next(n for n in after.segments[0].nodes if n.operator == "MatMul")
    assert product.inputs[0] == "G"


def test_a_matrix_that_is_needed_stays(workshop: Any, structures: Any) -> None:
    before = solver(workshop, structures, "numbers", read="solve")
    assert diagonal_plus_matrix(before).segments == before.segments


def test_other_sums_stay(workshop: Any, structures: Any) -> None:
    g = workshop.Graph()
    G, x = g.input("G", N, N), g.input("x", N, 2)
    for g.k in range(K):
        for name in ("off the diagonal", "a row"):
            shift = g.weight(name, np.eye(N, k=1) if name == "off the diagonal" else np.ones((1, N)))
            x = g("Tanh", g("MatMul", g("Add", G, shift), x))
    before = structures.prepared(workshop, g.model(x))
    assert diagonal_plus_matrix(before).segments == before.segments


@pytest.mark.parametrize("form", ["numbers", "choice"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("G33", [-1.5, 1.5])
def test_what_is_not_finite_stays_so(workshop: Any, structures: Any, form: str, value: float, G33: float) -> None:
    """The same elements of the product; only an Inf may have become a NaN, where G's diagonal and D differ in sign."""
    before = solver(workshop, structures, form, bare=True)
    after, rng = diagonal_plus_matrix(before), np.random.default_rng(2)
    x, G = rng.standard_normal((1, N)).astype(np.float32), rng.standard_normal((1, N, N)).astype(np.float32)
    G[0, 3, 3] = G33
    for wrong in ("x", "G"):
        inputs = {"x": x.copy(), "G": G.copy()}
        inputs[wrong][(0, 3, 3)[: inputs[wrong].ndim]] = value
        with np.errstate(all="ignore"):
            found, wanted = (evaluate(p, inputs, iterations=1)[0] for p in (after, before))
        assert not np.isfinite(wanted).all()
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
        assert (np.isnan(found) >= np.isnan(wanted)).all()
        if G33 > 0:
            np.testing.assert_array_equal(found[np.isinf(wanted)], wanted[np.isinf(wanted)])
