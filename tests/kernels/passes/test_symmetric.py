from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.passes.symmetric import symmetric, symmetrised

rng = np.random.default_rng(5)
HALF = rng.standard_normal((6, 6)).astype(np.float32)
WHOLE = HALF + HALF.T


@pytest.mark.parametrize("matrix", [WHOLE, np.stack([WHOLE, 2 * WHOLE]), np.ones((3, 3), int), np.zeros((0, 0))])
def test_equal_entries(matrix: np.ndarray) -> None:
    assert symmetric(matrix) and symmetric(matrix, 1e-6)


@pytest.mark.parametrize("matrix", [HALF, np.stack([WHOLE, HALF]), WHOLE[:4], WHOLE[0], np.triu(np.ones((3, 3), int))])
def test_unequal_entries(matrix: np.ndarray) -> None:
    assert not symmetric(matrix) and not symmetric(matrix, 1e-6)


def test_tolerance_is_relative_to_the_largest_entry() -> None:
    size = float(np.abs(WHOLE).max())
    near = WHOLE.astype(np.float64)
    near[1, 4] += 1e-6 * size
    assert not symmetric(near) and not symmetric(near, 0.9e-6)
    assert symmetric(near, 1.1e-6) and symmetric(1e9 * near, 1.1e-6)


def test_what_is_not_finite() -> None:
    assert symmetric(np.array([[0.0, np.inf], [np.inf, 0.0]]), 1e-6)
    assert not symmetric(np.array([[0.0, np.inf], [-np.inf, 0.0]]), 1e-6)
    assert not symmetric(np.array([[np.nan, 1.0], [1.0, 0.0]]), 1e-6)
    assert not symmetric(np.array([[np.inf, 1.0], [2.0, 0.0]]), 1e-6)


def test_a_rounding_is_evened_out_and_more_is_not() -> None:
    assert symmetrised(WHOLE) is WHOLE and symmetrised(HALF) is None
    near = WHOLE.copy()
    near[1, 4] += np.finfo(np.float32).eps * np.abs(WHOLE).max() / 2
    assert near[1, 4] != near[4, 1]
    found = symmetrised(near)
    assert found is not None and symmetric(found) and found.dtype == np.float32
    assert min(near[1, 4], near[4, 1]) <= found[1, 4] <= max(near[1, 4], near[4, 1])
