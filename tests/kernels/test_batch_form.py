"""Which problems are solved side by side, and how many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unfoldc.kernels.batch_form import lanes_that_fit, why_one_by_one
from unfoldc.kernels.loops import Buffer, For, Load, LoopProgram, Step, Store, Var

KIB = 1024


def program(begin: int, iteration: int, weights: int) -> LoopProgram:
    """Problems that own so many KiB of input, which only `begin` reads, and of state; with so many of weights."""
    sizes = {"y": ("input", begin), "x": ("state", iteration), "w": ("constant", weights)}
    buffers = {n: Buffer(n, "float32", (max(1, size * KIB // 4),), space) for n, (space, size) in sizes.items()}
    first = Store("x", (Var("i"),), Load("y", (Var("i"),), "float32"))
    step = Store("x", (Var("i"),), Load("w", (Var("i"),), "float32"))
    constants = {"w": np.zeros(buffers["w"].shape, np.float32)}
    return LoopProgram(
        buffers, constants, ("y",), (), (For("i", 1, (first,)),), (Step(0, 4, (For("i", 1, (step,)),)),), ()
    )


@pytest.mark.parametrize(
    ("begin", "iteration", "weights", "lanes"),
    [
        (0, 1, 0, 32),  # all of 32 problems is in the first cache
        (8, 1, 0, 32),  # what an iteration uses is
        (2, 2, 0, 16),  # of 16 problems it is
        (2, 3, 0, 0),
        (2, 3, 8, 32),  # the weights are more than what a problem owns
        (100, 1, 0, 0),  # too much for the second cache
        (100, 1, 200, 0),
        (40, 1, 0, 16),
    ],
)
def test_as_many_as_fit_the_cache(begin: int, iteration: int, weights: int, lanes: int) -> None:
    made = program(begin, iteration, weights)
    scheduled = replace(made, scratch_bytes=0)
    found = lanes_that_fit(made, scheduled, 32)
    reason = why_one_by_one(made, scheduled, found)
    assert (0 if reason else found) == lanes
    assert not reason or "do not fit the cache" in reason


def test_a_target_without_lanes_has_none() -> None:
    assert lanes_that_fit(program(1, 1, 0), program(1, 1, 0), 0) == 0
