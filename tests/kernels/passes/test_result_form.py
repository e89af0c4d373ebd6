"""A nest of sums as a formula, and back."""

from __future__ import annotations

from typing import Any

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, For, Let, Load, Local, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.result_form import result_form

F = "float32"
X = Load("x", (Var("i"),), F)
W = Load("w", (Var("i"), Var("j")), F)
STORE = Store("y", (Var("i"),), Local("acc", F))


def grown(name: str = "acc", operator: str = "add", term: Any = W) -> For:
    return For("j", 5, (Assign(name, build.binary(operator, Local(name, F), term)),))


def zero(name: str = "acc") -> Let:
    return Let(name, build.literal(0, F), mutable=True)


def nest(*body: Stmt) -> Nest:
    return Nest(("made by hand",), (For("i", 3, body),))


def test_scalars_stand_where_they_are_read_and_sums_of_one_length_grow_together() -> None:
    double = Let("d", build.mul(X, build.literal(2, F)))
    value = build.sub(build.add(Local("acc", F), Local("more", F)), Local("d", F))
    last = Store("y", (Var("i"),), value)
    form = result_form(nest(zero(), grown(), double, zero("more"), grown("more", term=Local("d", F)), last))
    assert form is not None
    assert form.sums["more"].term == double.value
    (loop,) = form.nest().body
    assert isinstance(loop, For)
    assert [type(s) for s in loop.body] == [Let, Let, For, Store]
    sums = loop.body[2]
    assert isinstance(sums, For)
    assert [s.name for s in sums.body if isinstance(s, Assign)] == ["acc", "more"]


@pytest.mark.parametrize(
    "body",
    [
        (zero(), STORE),
        (zero(), grown(operator="sub"), STORE),
        (zero(), grown(operator="max"), STORE),
        (zero(), zero("more"), grown("more"), grown(term=Local("more", F)), STORE),
        (zero(), grown(), STORE, STORE),
        (zero(), For("j", build.add(Var("i"), build.index(1)), grown().body), STORE),
        (zero(), grown()),
    ],
    ids=["no sum", "difference", "maximum", "sum of sums", "two results", "triangle", "no result"],
)
def test_other_nests_have_no_form(body: tuple[Stmt, ...]) -> None:
    assert result_form(nest(zero(), grown(), STORE)) is not None
    assert result_form(nest(*body)) is None
    assert result_form(STORE) is None
