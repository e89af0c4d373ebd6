from __future__ import annotations

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, Cast, Const, For, Let, Load, Local, Nest, Select, Store, Var

I, J = Var("i"), Var("j")  # noqa: E741
X = Load("x", (I,), "float32")


@pytest.mark.parametrize("operator", ["add", "sub", "mul", "floordiv", "mod"])
def test_index_arithmetic_on_literals_is_carried_out(operator: str) -> None:
    for a in (-7, 0, 1, 5):
        for b in (1, 3):
            wanted = {"add": a + b, "sub": a - b, "mul": a * b, "floordiv": a // b, "mod": a % b}[operator]
            assert build.binary(operator, build.index(a), build.index(b)) == build.index(wanted)


def test_neutral_elements_vanish() -> None:
    one = build.index(1)
    assert build.add(build.ZERO, I) == build.add(I, build.ZERO) == build.sub(I, build.ZERO) == I
    assert build.mul(I, one) == build.mul(one, I) == build.binary("floordiv", I, one) == I
    assert build.mul(I, build.ZERO) == build.mul(build.ZERO, I) == build.binary("mod", I, one) == build.ZERO
    assert build.add(I, J) == Binary("add", I, J, "int32")


def test_numbers_are_left_to_the_run() -> None:
    zero = build.literal(0, "float32")
    assert build.mul(X, zero) == Binary("mul", X, zero, "float32")  # NaN times 0 is NaN


def test_types() -> None:
    assert build.binary("lt", X, X).dtype == "bool"
    assert build.unary("isnan", X).dtype == "bool"
    assert build.unary("exp", X).dtype == "float32"
    assert build.cast(X, "float32") is X
    assert build.cast(X, "int32") == Cast(X, "int32")
    assert build.literal(2.0, "int64") == Const(2, "int64")
    assert build.literal(1, "bool") == Const(True, "bool")
    assert isinstance(build.literal(1, "float32").value, float)


def test_substitution_reaches_every_expression() -> None:
    nest = Nest(
        ("n",),
        (
            Let("a", Select(Binary("lt", X, X, "bool"), X, build.unary("neg", X), "float32"), mutable=True),
            For("j", 3, (Assign("a", build.cast(build.cast(X, "float64"), "float32")),)),
            Store("y", (build.add(I, build.index(1)),), Local("a", "float32")),
        ),
    )
    changed = build.substitute(nest, "i", build.index(4))
    found = [e for top in build.expressions(changed) for e in build.walk(top)]
    assert I not in found
    assert found.count(Load("x", (build.index(4),), "float32")) == 5
    assert build.index(5) in found  # folded on the way
    assert [type(s) for s in build.statements((changed,))] == [Nest, Let, For, Assign, Store]
