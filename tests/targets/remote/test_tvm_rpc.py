"""Solvers on TVM's RPC: a server by itself, and a farm of two behind a tracker."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
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


def wrong_solver(lista: Any, statement: str, folder: Path) -> tuple[Artifact, Path]:
    """A solver whose begin does something first, as a library."""
    source = lista.artifact("host").sources["solver.c"]
    changed = source.replace("    float a = 0.0f;", f"    float a = 0.0f; {statement}", 1)
    assert changed != source
    artifact = lista.artifact("host", solver__c=changed)
    return artifact, build_library_with("gcc", artifact, folder)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("*(volatile int *)8 = 1;", "at a wrong address"),
        pytest.param("for (volatile int z = 1; z;) { }", "nothing within 1.5 s", marks=pytest.mark.slow),
    ],
)
def test_a_solver_that_hangs_or_crashes_is_named_and_the_board_goes_on(
    statement: str, found: str, farm: Farm, artifact: Artifact, library: Path, lista: Any, tmp_path: Path
) -> None:
    """The server and its session live on: the solver is a process of its own, with an alarm."""
    before = children()
    wrong, its_library = wrong_solver(lista, statement, tmp_path / "wrong")
    text = f"tvm-rpc://127.0.0.1:{farm.tracker}?key=board"
    device = connect(parse_address(f"{text}&timeout=1.5"), job(wrong, its_library))
    with pytest.raises(DeviceError, match=found):
        device.solve([Y], 4)
    device.close()
    device = connect(parse_address(text), job(artifact, library))
    assert device.solve([Y], 4)[0] == pytest.approx(lista.solve(Y), abs=1e-6)
    device.close()
    assert children() == before


@pytest.mark.slow
def test_what_was_measured_before_a_board_goes_away_is_kept(artifact: Artifact, library: Path, tmp_path: Path) -> None:
    with server(tmp_path) as port:
        device = connect(parse_address(f"tvm-rpc://127.0.0.1:{port}?timeout=60"), job(artifact, library))

        def kill(done: int) -> None:
            if done == 8:
                for entry in Path("/proc").glob("[0-9]*"):
                    with contextlib.suppress(OSError):
                        if (
                            str(tmp_path).encode() in (entry / "environ").read_bytes()
                            and int(entry.name) != os.getpid()
                        ):
                            os.kill(int(entry.name), 9)

        found = device.profile([Y], 4, repeats=10**6, progress=kill)
        assert found.failure is not None and len(found.counts) >= 8
        device.close()


def _lie(connection: socket.socket) -> None:
    """A tracker that knows the board, has none free, and calls two lines a number of jobs."""
    with connection:
        connection.recv(4)
        connection.sendall(struct.pack("<i", 0x2F271))
        while len(head := connection.recv(4)) == 4:
            asked = json.loads(connection.recv(struct.unpack("<i", head)[0]))
            if len(asked) == 1:  # for a summary
                facts = {
                    "server_info": [{"key": "server:rpi4"}],
                    "queue_info": {"rpi4": {"pending": "1\nunfoldc: run\n"}},
                }
                answer = json.dumps([0, facts]).encode()
                connection.sendall(struct.pack("<i", len(answer)) + answer)


def test_a_tracker_cannot_say_that_a_runner_has_started(artifact: Artifact, library: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server_socket:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=_lie, args=(server_socket.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        address = f"tvm-rpc://127.0.0.1:{server_socket.getsockname()[1]}?key=rpi4&timeout=30&wait=0.5"
        with pytest.raises(DeviceError, match="longer than the time limit to connect"):
            connect(parse_address(address), job(artifact, library))
