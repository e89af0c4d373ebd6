"""Batches for what solves one problem at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unfoldc.kernels.artifact import Artifact


def problem_of(artifact: Artifact, arrays: Sequence[np.ndarray], item: int) -> list[np.ndarray]:
    """The inputs of problem `item` of a batch, each of its port's shape."""
    return [a[item] if port.batched else a for port, a in zip(artifact.inputs, arrays, strict=True)]


def solve_one_by_one(
    artifact: Artifact,
    solve: Callable[[list[np.ndarray]], list[np.ndarray]],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    batch: int,
) -> None:
    """Give each of `batch` problems to `solve`, which returns the outputs of one; write these into `outputs`."""
    for item in range(batch):
        answers = solve(problem_of(artifact, inputs, item))
        for port, output, answer in zip(artifact.outputs, outputs, answers, strict=True):
            (output[item : item + 1] if port.batched else output)[...] = answer
