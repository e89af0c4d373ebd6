"""The pairs of halves that the text names add up to the sums of rows; test_c_run compiles and runs it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from unfoldc.kernels.printers.c.lane_sums import sums_of_rows


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_halves_end_in_the_sums(count: int) -> None:
    text = " ".join(sums_of_rows("s", count, "float32", "v"))
    shuffles = re.findall(r"shufflevector\(r\[i\], r\[i \+ (\d+)\], ([\d, ]+)\)", text)
    rows = list(np.random.default_rng(count).integers(0, 99, (count, count)))
    sums = [r.sum() for r in rows]
    for (half, own), (_, other) in zip(shuffles[::2], shuffles[1::2], strict=True):
        places = [[int(p) for p in text.split(",")] for text in (own, other)]
        both = [np.concatenate([rows[i], rows[i + int(half)]]) for i in range(int(half))]
        rows = [b[places[0]] + b[places[1]] for b in both]
    (found,) = rows
    np.testing.assert_array_equal(found, sums)
