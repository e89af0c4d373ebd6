from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr, For, Load, Var
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.passes.sweep_columns import sweep_columns


@pytest.mark.parametrize("rows", [4, 5, 8])
@pytest.mark.parametrize("columns", [2, 3, 4, 7, 8, 9])
@pytest.mark.parametrize("extra", [False, True])
def test_swept_columns_give_the_same(rows: int, columns: int, extra: bool, products: Any) -> None:
    program = products.product(rows, columns, transposed=True, extra=extra)
    body, added = sweep_columns(program.steps[0].body, program.buffers, 4, shortest=4)
    swept = products.changed(program, body, added)
    assert len(added) == 1
    np.testing.assert_allclose(products.answer(plan_memory(swept)), products.answer(program), rtol=1e-4, atol=1e-6)


def test_the_innermost_loops_run_along_the_results(products: Any) -> None:
    program = products.product(8, 8, transposed=True)
    body, _ = sweep_columns(program.steps[0].body, program.buffers, 4, shortest=4)
    inner = [s for s in build.statements(body) if isinstance(s, For) and s.kind == "vector"]
    assert [s.extent for s in inner] == [8, 8, 8]


def test_a_second_matrix_along_the_other_axis_is_left(products: Any) -> None:
    """Its elements for neighbouring results lie far apart."""
    program = products.product(8, 8, transposed=True)
    (nest,) = program.steps[0].body

    def change(e: Expr) -> Expr | None:
        return Load("w", (Var("i"), Var("j")), e.dtype) if isinstance(e, Load) and e.buffer == "x" else None

    body = (build.map_stmt(nest, change),)
    assert sweep_columns(body, program.buffers, 4, shortest=4) == (body, {})


@pytest.mark.parametrize(("rows", "transposed"), [(3, True), (8, False)])
def test_short_or_contiguous_sums_are_left(rows: int, transposed: bool, products: Any) -> None:
    program = products.product(rows, 5, transposed)
    assert sweep_columns(program.steps[0].body, program.buffers, 4, shortest=4) == (program.steps[0].body, {})
