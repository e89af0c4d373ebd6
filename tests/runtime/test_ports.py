"""The careful path of an input."""

from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.artifact import Port
from unfoldc.runtime.ports import as_typed, shape_text, signature

Y = Port("y", "float32", (3,), True)


def test_an_array_that_fits_is_not_copied() -> None:
    y = np.zeros((2, 3), np.float32)
    assert as_typed(Y, y.dtype, y) is y
    y.flags.writeable = False
    assert as_typed(Y, y.dtype, y) is y


def test_what_is_passed_on_is_aligned_and_contiguous() -> None:
    unaligned = np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3)
    for value in (
        unaligned,
        np.zeros((2, 6), np.float32)[:, ::2],
        np.zeros((3, 2), np.float32).T,
        np.zeros((2, 3), ">f4"),
    ):
        typed = as_typed(Y, np.dtype(np.float32), value)
        assert typed.flags.carray and typed.dtype == np.float32 and typed.dtype.isnative and typed.shape == (2, 3)


@pytest.mark.parametrize("value", [np.float64(1.5), 2, np.array(1.5), True])
def test_a_number_stays_without_axes(value: object) -> None:
    assert as_typed(Port("t", "float32", (), False), np.dtype(np.float32), value).shape == ()


def test_infinity_passes_but_overflow_does_not_go_unseen() -> None:
    typed = as_typed(Y, np.dtype(np.float32), [[np.inf, np.nan, 1.0]])
    assert typed[0, 0] == np.inf and np.isnan(typed[0, 1])


def test_shapes_as_text() -> None:
    assert shape_text(Y, None) == "(batch, 3)" and shape_text(Y, 7) == "(7, 3)"
    scalar = Port("t", "float64", (), True)
    assert shape_text(scalar, None) == "(batch,)" and shape_text(Port("H", "float32", (2, 3), False), 7) == "(2, 3)"
    assert signature((Y, scalar), None) == "y (batch, 3) float32, t (batch,) float64"
