from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.passes.triangle_blocks import TriangleBlocks

ORDERS = [8, 9, 16, 21, 24, 39]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rows", [2, 4, 6, 8])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_each_pair_is_stored_once(order: int, rows: int, lead: tuple[int, ...]) -> None:
    form = TriangleBlocks(order, rows)
    matrix = 1.0 + np.arange(np.prod((*lead, order, order))).reshape(*lead, order, order)
    packed = form.packed(matrix)
    assert packed.shape == (*lead, form.stored, rows)
    row, column = np.triu_indices(order)
    found, wanted = packed.reshape(*lead, -1), matrix[..., row, column]
    np.testing.assert_array_equal(np.sort(found[found > 0]), np.sort(wanted.ravel()))
    fill = form.blocks * (form.own * rows - rows * (rows + 1) // 2) + rows
    assert found.shape[-1] <= order * (order + 1) // 2 + fill


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_follow_each_other_from_the_last_to_the_first(order: int) -> None:
    form = TriangleBlocks(order, 4)
    assert form.before(0) == 0 and form.before(form.blocks) == form.columns
    for behind in range(form.blocks):
        columns = form.own + 4 * behind + form.rest
        assert form.before(behind + 1) == form.before(behind) + columns
