"""Products of three made from products of two."""

from __future__ import annotations

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, Let, Load, Local, Stmt, Store, Var
from unfoldc.kernels.passes.share_products import share_products

A, B, U = (Load(name, (Var("i"),), "float32") for name in "abu")
P, Q, R = (Local(name, "float32") for name in "pqr")


def body(q: Expr, r: Expr, *between: Stmt, p: Expr | None = None) -> tuple[Stmt, ...]:
    """p = a b; q; r; y[i] = p + r."""
    first = Let("p", build.mul(A, B) if p is None else p)
    return (first, *between, Let("q", q), Let("r", r), Store("y", (Var("i"),), build.add(P, R)))


ORDERS = [
    (build.mul(*q), build.mul(*r)) for x, y in ((A, B), (B, A)) for q in ((U, x), (x, U)) for r in ((Q, y), (y, Q))
]


@pytest.mark.parametrize(("q", "r"), ORDERS)
def test_a_product_that_is_there_is_used(q: Expr, r: Expr) -> None:
    changed = share_products(body(q, r))
    assert changed[2] == Let("r", build.mul(U, P))
    assert changed[:2] == body(q, r)[:2] and changed[3] == body(q, r)[3]


LAST = build.mul(Q, B)


@pytest.mark.parametrize(
    "statements",
    [
        body(build.mul(U, A), build.mul(Q, U)),
        body(build.mul(U, A), build.add(Q, B)),
        body(build.add(U, A), LAST),
        body(build.mul(U, A), LAST, p=build.add(A, B)),
        body(build.mul(U, A), LAST, Store("b", (Var("i"),), U)),  # b is another number by then
        (*body(build.mul(U, A), LAST), Store("z", (Var("i"),), Q)),  # q is needed all the same
        body(build.mul(U, R), LAST, Assign("r", U), p=build.mul(R, B)),
        (Let("q", build.mul(U, A)), Let("r", LAST), Let("p", build.mul(A, B)), Store("y", (Var("i"),), R)),
    ],
)
def test_what_must_stay_stays(statements: tuple[Stmt, ...]) -> None:
    assert share_products(statements) == statements
