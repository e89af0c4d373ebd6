from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.passes.half_blocks import HalfBlocks

ORDERS = [4, 7, 16, 20, 21, 33]


def symmetric(*shape: int) -> np.ndarray:
    half = np.random.default_rng(3).standard_normal(shape)
    return np.asarray(half + half.swapaxes(-1, -2))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("lead", [(), (3,)])
def test_each_pair_of_blocks_is_stored_once(order: int, lead: tuple[int, ...]) -> None:
    form, matrix = HalfBlocks(order, 4, 2), symmetric(*lead, order, order)
    arrays = form.packed(matrix)
    assert sum(a[(0,) * len(lead)].size for a in arrays) == form.stored
    n = form.blocks * 4
    whole = np.zeros((*lead, n, n))
    for part, array in zip(form.rows(), arrays, strict=True):
        assert array.shape == (*lead, part.count, 1 + part.followers, 4, 4)
        for row in range(part.count):
            for behind in range(1 + part.followers):
                i, j = part.first + row, (part.first + row + behind) % form.blocks
                block = array[..., row, behind, :, :]
                whole[..., 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] += block
                if behind:
                    whole[..., 4 * j : 4 * j + 4, 4 * i : 4 * i + 4] += block.swapaxes(-1, -2)
    np.testing.assert_array_equal(whole[..., :order, :order], matrix)
    assert np.count_nonzero(whole) == np.count_nonzero(matrix)  # what fills up the last blocks is zero


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_behind_the_end_have_a_place(order: int) -> None:
    form = HalfBlocks(order, 4, 2)
    last = max(part.first + part.count + part.followers for part in form.rows())
    assert form.length == 4 * last
    assert [b.shape for b in form.scratch("half", "float32")] == [(form.length,), (form.length,), (4, 4)]
