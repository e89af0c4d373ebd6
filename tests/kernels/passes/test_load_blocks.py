from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Load, LoopProgram, Store, Var
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.load_blocks import load_blocks

I, J = Var("i"), Var("j")  # noqa: E741


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, "float32")


def blocked(program: LoopProgram, rows: int, products: Any) -> LoopProgram:
    """Rows side by side, then in blocks."""
    body = load_blocks(block_rows(program.steps[0].body, rows), program.buffers)
    return products.changed(program, body, {})  # type: ignore[no-any-return]


def scalars(program: LoopProgram) -> list[str]:
    """The names of what is read in blocks."""
    return [s.name for s in build.statements(program.steps[0].body) if isinstance(s, Let) and s.name.startswith("j_")]


@pytest.mark.parametrize("columns", [3, 4, 8, 9, 12, 15, 16, 23])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 4])
def test_the_answer_is_the_same(columns: int, transposed: bool, rows: int, products: Any) -> None:
    program = products.product(9, columns, transposed)
    np.testing.assert_allclose(products.answer(blocked(program, rows, products)), products.answer(program), rtol=1e-5)


def test_a_row_of_eight_numbers_is_a_block(products: Any) -> None:
    found = blocked(products.product(8, 16, transposed=False), 4, products)
    names = scalars(found)
    assert len(names) == 5 * 8 and names[:8] == [f"j_0_{i}" for i in range(8)]  # x and four rows of the matrix
    loops = [s for s in build.statements(found.steps[0].body) if isinstance(s, For) and s.var == "j"]
    assert [s.extent for s in loops] == [2]


def test_the_rows_come_one_after_the_other_so_that_few_blocks_are_alive(products: Any) -> None:
    found = blocked(products.product(8, 16, transposed=False), 4, products)
    sums = [s.name for s in build.statements(found.steps[0].body) if isinstance(s, Assign)]
    assert sums == [f"acc_{r}" for r in range(4) for _ in range(8)]


def test_columns_that_lie_side_by_side_are_read_together(products: Any) -> None:
    found = blocked(products.product(8, 16, transposed=True), 4, products)
    sums = [s.name for s in build.statements(found.steps[0].body) if isinstance(s, Assign)]
    assert sums[:8] == [f"acc_{r}" for _ in range(2) for r in range(4)]
    assert len(scalars(found)) == 8 + 8 * 4


def test_what_is_not_short_enough_or_no_sum_stays(products: Any) -> None:
    program = products.product(8, 2, transposed=False)
    assert load_blocks(program.steps[0].body, program.buffers) == program.steps[0].body
    program = products.product(8, 16, transposed=False, extra=True)
    assert load_blocks(program.steps[0].body, program.buffers) == program.steps[0].body
    copy = For("j", 16, (Store("y", (J,), at("x", J)),))
    assert load_blocks((copy,), program.buffers) == (copy,)


def test_numbers_far_from_each_other_are_no_block(products: Any) -> None:
    program = products.product(8, 16, transposed=False)
    strided: Expr = build.mul(J, build.index(2))
    term = build.mul(at("w", I, strided), at("x", strided))
    loop = For("j", 8, (Assign("acc", build.add(build.literal(0, "float32"), term)),))
    assert load_blocks((loop,), program.buffers) == (loop,)


@pytest.mark.parametrize(("columns", "lengths"), [(3, [3]), (6, [6]), (8, [8]), (11, [8, 3]), (9, [8]), (23, [8, 7])])
def test_what_is_left_of_the_blocks_of_eight_is_a_block(columns: int, lengths: list[int], products: Any) -> None:
    found = blocked(products.product(8, columns, transposed=False), 4, products)
    assert len(scalars(found)) == 5 * sum(lengths)
