"""A runner in a process of this computer: what it answers, and what its failures look like."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from remote_runners import job
from tools_at_hand import needs_tool

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.connect import connect

pytestmark = needs_tool("gcc")


def test_a_local_runner_solves_like_the_reference(
    artifact: Artifact, runner: Path, lista: Any, problems: np.ndarray
) -> None:
    device = connect(parse_address("local"), job(artifact, runner))
    for y in problems:
        for k in (0, 1, lista.iterations):
            assert device.solve([y], k)[0] == pytest.approx(lista.solve(y, k), abs=1e-6)
    nan = device.solve([np.full(5, np.nan, np.float32)], lista.iterations)[0]
    assert np.isnan(nan).all()
    device.close()


def test_each_repetition_has_the_counts_of_each_part(artifact: Artifact, runner: Path, problems: np.ndarray) -> None:
    device = connect(parse_address("local"), job(artifact, runner))
    found = device.profile([problems[0]], 3, repeats=10)  # two answers of four, one of two
    assert found.failure is None and found.counts.shape == (10, artifact.iterations + 2)
    assert (found.counts[:, 4] == 0).all()  # the iteration that did not run
    assert found.counts.any()
    device.close()


def test_what_was_measured_before_a_runner_dies_is_kept(artifact: Artifact, runner: Path, problems: np.ndarray) -> None:
    device = connect(parse_address("local"), job(artifact, runner))

    def kill(done: int) -> None:
        if done >= 8:
            device.channel.process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined]

    found = device.profile([problems[0]], 4, repeats=1000, progress=kill)
    assert isinstance(found.failure, DeviceError) and "killed" in found.failure.found
    assert len(found.counts) >= 8 and found.failure.partial is found.counts
    device.close()
    assert device.channel.process.returncode is not None  # type: ignore[attr-defined]
