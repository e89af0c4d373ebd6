"""Solvers on TVM's RPC: a server by itself, and a farm of two behind a tracker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback_sshd import free_port
from remote_runners import build_library_with, children, job
from tools_at_hand import needs_tool
from tvm_servers import server, tracker

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.connect import connect

pytestmark = needs_tool("gcc")
Y = np.ones(5, np.float32)


@dataclass(frozen=True)
class Farm:
    tracker: int
    folder: Path


@pytest.fixture(scope="module")
def library(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library_with("gcc", artifact, tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A tracker with one board of the key "board"."""
    folder = tmp_path_factory.mktemp("farm")
    with tracker(folder) as port, server(folder, port, "board"):
        yield Farm(port, folder)


def test_a_board_of_a_farm_solves_and_counts(farm: Farm, artifact: Artifact, library: Path, lista: Any) -> None:
    before = children()
    address = parse_address(f"tvm-rpc://127.0.0.1:{farm.tracker}?key=board&timeout=60")
    for _ in range(2):  # the board comes back to the farm
        device = connect(address, job(artifact, library))
        for k in (0, 4):
            assert device.solve([Y], k)[0] == pytest.approx(lista.solve(Y, k), abs=1e-6)
        found = device.profile([Y], 4, repeats=6)
        assert found.counts.shape == (6, 6) and found.counts.any()
        device.close()
    assert children() == before


def test_what_is_not_there_is_named(farm: Farm, artifact: Artifact, library: Path) -> None:
    for text, found in (
        (f"tvm-rpc://127.0.0.1:{farm.tracker}?key=other", "knows no board 'other'; it has board"),
        (f"tvm-rpc://127.0.0.1:{free_port()}?key=board", "refused"),
        (f"tvm-rpc://127.0.0.1:{free_port()}", "Connect to .* failed"),
    ):
        with pytest.raises(DeviceError, match=found):
            connect(parse_address(text + ("&" if "?" in text else "?") + "timeout=60"), job(artifact, library))


@pytest.mark.slow
def test_four_jobs_queue_for_two_boards(
    farm: Farm, artifact: Artifact, library: Path, lista: Any, problems: np.ndarray
) -> None:
    address = parse_address(f"tvm-rpc://127.0.0.1:{farm.tracker}?key=board&timeout=120")
    said: list[str] = []
    queued = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if sum("waiting for a board" in line for line in said) == 2:
            queued.set()

    one = job(artifact, library)
    told = type(one)(one.artifact, one.target, one.build, say)

    def solve(y: np.ndarray) -> np.ndarray:
        device = connect(address, told)
        try:
            assert queued.wait(120)  # both boards are held until the other two jobs are in the queue
            return device.solve([y], 4)[0]
        finally:
            device.close()

    with server(farm.folder, farm.tracker, "board"), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(solve, problems[:4]))
    for y, x in zip(problems, answers, strict=False):
        assert x == pytest.approx(lista.solve(y), abs=1e-6)


@pytest.mark.slow
def test_a_board_that_hangs_or_dies_is_named_and_what_was_measured_kept(
    artifact: Artifact, library: Path, lista: Any, tmp_path: Path
) -> None:
    source = artifact.sources["solver.c"]
    endless = source.replace("    float a = 0.0f;", "    float a = 0.0f; for (volatile int z = 1; z;) { }", 1)
    hanging = lista.artifact("host", solver__c=endless)
    stuck = build_library_with("gcc", hanging, tmp_path / "stuck")
    before = children()
    with server(tmp_path) as port:
        device = connect(parse_address(f"tvm-rpc://127.0.0.1:{port}?timeout=10&session=15"), job(hanging, stuck))
        with pytest.raises(DeviceError, match="nothing within 10 s|session has expired|RPC ended"):
            device.solve([Y], 4)
        device.close()
        # The server ends the session, and serves again.
        device = connect(parse_address(f"tvm-rpc://127.0.0.1:{port}?timeout=60"), job(artifact, library))
        assert device.solve([Y], 4)[0] == pytest.approx(lista.solve(Y), abs=1e-6)

        def kill(done: int) -> None:
            if done == 8:
                for pid in subprocess.run(
                    ["pgrep", "-f", f"popen_worker|port {port}"], capture_output=True
                ).stdout.split():
                    with contextlib.suppress(OSError):
                        if f"{tmp_path}" in Path(f"/proc/{int(pid)}/environ").read_text():
                            os.kill(int(pid), 9)

        found = device.profile([Y], 4, repeats=10**6, progress=kill)
        assert found.failure is not None and len(found.counts) >= 8
        device.close()
    assert children() == before
