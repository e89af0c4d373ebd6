from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, For, Let, Load, Local, Nest, Store, Var
from unfoldc.kernels.passes.block_rows import block_rows, encloses_reduction, rows_are_independent


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 9])
@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("extra", [False, True])
def test_blocked_rows_give_the_same(rows: int, block: int, extra: bool, products: Any) -> None:
    program = products.product(rows, 5, transposed=False, extra=extra)
    blocked = products.changed(program, block_rows(program.steps[0].body, block), {})
    np.testing.assert_allclose(products.answer(blocked), products.answer(program), rtol=1e-5)


def test_blocked_rows_share_one_reduction(products: Any) -> None:
    program = products.product(8, 5, transposed=False)
    (nest,) = block_rows(program.steps[0].body, 4)
    loops = [s for s in build.statements((nest,)) if isinstance(s, For)]
    assert [(s.var, s.extent) for s in loops] == [("i", 2), ("j", 5)]
    assert sum(isinstance(s, Assign) for s in build.statements((nest,))) == 4


@pytest.mark.parametrize(("rows", "sums"), [(12, 1), (9, 1), (12, 2)])
def test_more_rows_of_one_sum_where_they_leave_no_rest(rows: int, sums: int, products: Any) -> None:
    program = products.product(rows, 5, transposed=False)
    if sums > 1:
        other = Let("other", build.literal(0, "float32"), mutable=True)
        (nest,) = program.steps[0].body
        program = products.changed(program, (Nest(nest.origins, (For("i", rows, (other, *nest.body[0].body)),)),), {})
    blocked = products.changed(program, block_rows(program.steps[0].body, 4, of_one_sum=6), {})
    inside = [s for s in build.statements(blocked.steps[0].body) if isinstance(s, For) and s.var == "j"]
    most = max(sum(isinstance(s, Assign) for s in loop.body) for loop in inside)
    assert most == (6 if rows == 12 and sums == 1 else 4)
    np.testing.assert_allclose(products.answer(blocked), products.answer(program), rtol=1e-5)


def test_one_accumulator_changes_nothing(products: Any) -> None:
    body = products.product(8, 5, transposed=False).steps[0].body
    assert block_rows(body, 1) == body


def test_only_the_innermost_result_loop_is_blocked(products: Any) -> None:
    (nest,) = products.product(8, 5, transposed=False).steps[0].body
    assert isinstance(nest, Nest) and isinstance(nest.body[0], For)
    outer = For("b", 3, nest.body)
    assert encloses_reduction(nest.body[0]) and not encloses_reduction(outer)


def test_a_scalar_carried_over_the_rows_keeps_them_in_order() -> None:
    """Each row continues where the one before ended: several at once would start from the same value."""
    seen = Local("seen", "float32")
    inner = For("j", 5, (Assign("acc", build.add(Local("acc", "float32"), Load("x", (Var("j"),), "float32"))),))
    row = (
        Let("acc", seen, mutable=True),
        inner,
        Assign("seen", Local("acc", "float32")),
        Store("y", (Var("i"),), seen),
    )
    loop = For("i", 8, row)
    assert block_rows((loop,), 4) == (loop,)


def test_places_that_share_an_index_which_moves_are_independent() -> None:
    i, j = Var("i"), Var("j")
    x = Load("x", (i,), "float32")

    def loop(*stores: Store) -> For:
        return For("i", 8, stores)

    first, second = Store("y", (build.ZERO, i), x), Store("y", (build.index(1), i), x)
    assert rows_are_independent(loop(first, second), {})
    own = Store("z", (i,), Load("y", (build.ZERO, i), "float32"))
    assert rows_are_independent(loop(first, second, own), {})
    next_one = Store("y", (build.index(1), build.add(i, build.index(1))), x)
    assert not rows_are_independent(loop(first, next_one), {})
    fixed = Store("y", (build.index(1), build.ZERO), x)
    assert not rows_are_independent(loop(first, fixed), {})
    others = Store("z", (i,), Load("y", (build.ZERO, j), "float32"))
    assert not rows_are_independent(For("j", 8, loop(first, others).body), {"i": (0, 7)})
