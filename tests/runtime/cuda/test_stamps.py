"""Times of the parts from blocks' stamps."""

from __future__ import annotations

import numpy as np

from unfoldc.runtime.cuda.stamps import block_means


def test_parts_are_means_over_the_blocks() -> None:
    stamps = np.array([[100, 110, 130, 160], [1000, 1030, 1070, 1130], [0, 0, 0, 0]])
    np.testing.assert_array_equal(block_means(stamps, 2, 2), [20, 30, 45, 0])
    with_end = np.array([[100, 110, 130, 160, 165]])
    np.testing.assert_array_equal(block_means(with_end, 2), [10, 20, 30, 5])


def test_what_did_not_run_takes_no_time() -> None:
    np.testing.assert_array_equal(block_means(np.array([[100, 110, 130, 0, 0]]), 3), [10, 20, 0, 0, 0])
    np.testing.assert_array_equal(block_means(np.zeros((4, 5)), 3), np.zeros(5))


def test_earlier_problems_of_a_block_are_taken_out_of_begin() -> None:
    begin, steps = 7, [20, 30]
    each = begin + sum(steps)
    rows = []
    for rounds, start in ((3, 100), (2, 5000)):  # 5 units on 2 blocks
        last = start + (rounds - 1) * each
        rows.append([start, last + begin, last + begin + 20, last + each])
    np.testing.assert_allclose(block_means(np.array(rows), 2, 5), [7, 20, 30, 0])
