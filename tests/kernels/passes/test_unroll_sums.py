"""Which sums are unrolled."""

from __future__ import annotations

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, For, Let, Load, Local, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.unroll_sums import unroll_sums


def product(rows: int, columns: int, variable: str = "j") -> For:
    """y[l] = sum_j w[j, l] x[j] with `rows` sums, for 16 neighbouring results."""
    sums = [f"a{r}" for r in range(rows)]
    added = [
        Assign(
            name,
            build.add(
                Local(name, "float32"),
                build.mul(
                    Load("w", (Var(variable), Var("l")), "float32"), Load("x", (Var(variable),), "float32")
                ),
            ),
        )
        for name in sums
    ]  # fmt: skip
    return For(
        "l",
        16,
        (
            *(Let(name, build.literal(0, "float32"), True) for name in sums),
            For(variable, columns, tuple(added)),
            *(Store("y", (Var("l"),), Local(name, "float32")) for name in sums),
        ),
        "lanes",
    )


def kinds(body: tuple[Stmt, ...]) -> list[str]:
    """The kinds of all loops over columns."""
    return [s.kind for s in build.statements(body) if isinstance(s, For) and s.var != "l"]


def test_short_products_are_unrolled() -> None:
    body = (Nest((), (product(8, 32),)), product(2, 16))
    found = unroll_sums(body)
    assert kinds(found) == ["unroll", "unroll"]
    assert all(s.kind == "lanes" for s in build.statements(found) if isinstance(s, For) and s.var == "l")


def test_what_would_become_long_stays_as_it_is() -> None:
    for body in ((product(8, 65),), (product(8, 33), product(8, 33))):
        assert unroll_sums(body) is body


def test_products_under_another_loop_stay_as_they_are() -> None:
    body = (For("r", 4, (product(2, 8),)),)
    assert unroll_sums(body) is body
    mixed = unroll_sums((*body, product(2, 8, "i")))
    assert kinds(mixed) == ["serial", "serial", "unroll"]


def test_loops_within_loops_stay_as_they_are() -> None:
    outer = product(2, 8)
    window = For("i", 3, (For("j", 3, (Assign("a0", Local("a0", "float32")),)),))
    body = (For("l", 16, (*outer.body[:2], window), "lanes"),)
    assert kinds(unroll_sums(body)) == ["serial", "serial"]
