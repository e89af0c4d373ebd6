from __future__ import annotations

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.build import add, binary, index, sub
from unfoldc.kernels.lane_indices import Stopping, border, moves_along, stopping
from unfoldc.kernels.loops import Binary, Expr, Load, Local, Var

L, I = Var("l"), Var("i")  # noqa: E741
LAST = binary("min", add(L, index(12)), index(14))
FIRST = binary("max", sub(L, index(1)), index(0))


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (add(LAST, index(1)), Stopping(12, 1, 1, 3)),
        (LAST, Stopping(12, 0, 0, 2)),
        (FIRST, Stopping(0, -1, 0, 2)),
        (binary("max", sub(add(L, index(12)), index(1)), index(0)), Stopping(11, 0, 0, 3)),
        (binary("max", binary("min", sub(L, index(1)), index(1)), index(0)), Stopping(0, -1, 0, 1)),
        (binary("min", add(L, index(20)), index(15)), Stopping(12, 0, 3, 3)),
        (build.mul(L, index(2)), None),
        (sub(index(15), L), None),
        (add(LAST, I), None),
        (add(L, index(13)), None),
    ],
)
def test_where_the_elements_of_a_vector_stand(place: Expr, found: Stopping | None) -> None:
    """Four elements on an axis of 16; the vector that is loaded lies on it."""
    assert stopping(place, "l", 4, 16) == found
    if found is not None:
        assert 0 <= found.start <= 16 - 4 and 0 <= found.first <= found.last < 4
    assert stopping(place, "l", 4, 3) is None


def test_neighbours() -> None:
    assert moves_along(add(L, build.mul(I, index(3))), "l")
    assert not moves_along(build.mul(L, index(2)), "l")
    assert not moves_along(LAST, "l") and not moves_along(I, "l")


def test_comparisons_by_which_elements_differ() -> None:
    assert border(binary("lt", add(L, index(12)), index(15)), "l") == (1, index(3))
    assert border(binary("ge", I, add(L, index(2))), "l") == (-1, sub(index(2), I))
    for other in (
        binary("lt", I, index(3)),
        binary("lt", build.mul(L, index(2)), index(3)),
        add(L, I),
        Local("c", "bool"),
    ):
        assert border(other, "l") is None
    numbers = Load("x", (L,), "float32"), Load("y", (L,), "float32")
    assert border(Binary("lt", *numbers, "bool"), "l") is None
