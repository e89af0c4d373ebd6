"""`on=` and `--on`: solvers on other machines, which are processes of this one here, and a board that disappears."""

from __future__ import annotations

import contextlib
import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_board import FakeBoard
from loopback_sshd import sshd
from remote_runners import children, quick_build_runner
from tools_at_hand import needs_tool

import unfoldc
from unfoldc import cli
from unfoldc.errors import DeviceError, InputError, TargetError
from unfoldc.runtime import Status
from unfoldc.targets.remote.protocol import Frame, Request
from unfoldc.targets.remote.runner_build import build_runner

pytestmark = needs_tool("gcc")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("unfoldc.runtime.remote_runners.build_runner", quick_build_runner)


@pytest.fixture(scope="module")
def built(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The solver for this computer with the runner in its folder, built once."""
    folder = tmp_path_factory.mktemp("built")
    onnx.save(tiny.model(), folder / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unfoldc.runtime.remote_runners.build_runner", quick_build_runner)
        return unfoldc.compile(folder / "tiny.onnx", on="local", cache=False).save(folder / "saved")


def test_a_solver_on_another_machine_answers_like_any_other(built: Path, tiny: Any) -> None:
    before = children()
    with unfoldc.load(built, on="local") as solver:
        y = tiny.problems(3)
        assert solver(y) == pytest.approx(tiny.solve(y), abs=1e-6)
        early = solver.run({"y": y}, 2)
        assert early.status is Status.STOPPED
        assert early.outputs["x"] == pytest.approx(tiny.solve(y, 2), abs=1e-6)
        assert solver.run({"y": np.full((1, 5), np.nan, np.float32)}).status is Status.NOT_FINITE
        bound = solver.bind(y)
        assert bound() == pytest.approx(tiny.solve(y), abs=1e-6)
        assert (solver.on, solver.backend) == ("local", "c")
        assert children() > before
    assert children() == before
    assert solver(y) == pytest.approx(tiny.solve(y), abs=1e-6)  # connects again
    del solver, bound
    gc.collect()
    assert children() == before


def test_its_profile_is_by_the_clock_over_there(built: Path, tiny: Any) -> None:
    with unfoldc.load(built, on="local") as solver:
        y = tiny.problems(2)
        profile = solver.profile({"y": y}, repeats=50, truth=tiny.solve(y))
    assert (profile.on, profile.batch, profile.repeats) == ("local", 1, 50)
    assert len(profile.iterations) == 3 and profile.seconds_p50 is not None
    assert all(row.seconds_p50 is not None and row.cycles_p50 is None for row in profile.iterations)
    assert profile.iterations[-1].error == pytest.approx(0, abs=1e-6)
    assert "on local, 50 repetitions" in str(profile) and json.loads(profile.to_json())["on"] == "local"


def test_a_runner_is_built_once_and_saved_with_the_solver(
    built: Path, model: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [p.suffix for p in (built / "remote").iterdir()] == [".runner"]
    unfoldc.compile(model, on="local")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr("remote_runners.build_with", fail)
    y = tiny.problems(1)
    for solver in (unfoldc.load(built, on="local"), unfoldc.compile(model, on="local")):
        assert solver(y) == pytest.approx(tiny.solve(y), abs=1e-6)
        solver.close()


def test_what_cannot_go_there_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match="back end reference; allowed: c or tvm"):
        unfoldc.compile(model, backend="reference", on="local")
    with pytest.raises(TargetError, match="without an operating system.*raspberry-pi-4"):
        unfoldc.compile(model, target="stm32f407", on="ssh://nowhere.invalid")
    with pytest.raises(InputError, match="no way called 'nowhere'"):
        unfoldc.compile(model, on="nowhere")


def test_a_launcher_that_is_not_there_is_named(built: Path, tiny: Any) -> None:
    solver = unfoldc.load(built, on="local?launch=no-such-emulator")
    with pytest.raises(DeviceError, match="no-such-emulator cannot be started"):
        solver(tiny.problems(1))


@pytest.mark.slow
@needs_tool("qemu-aarch64-static", "sshd", "ssh")
@pytest.mark.parametrize("backend", ["c", "tvm"])
def test_a_raspberry_pi_behind_ssh(
    backend: str, model: Path, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner is built as for a user, by zig, which takes a minute for its C library."""
    monkeypatch.setattr("unfoldc.runtime.remote_runners.build_runner", build_runner)
    with (
        sshd(tmp_path / "sshd") as address,
        unfoldc.compile(
            model, "raspberry-pi-4", backend, on=f"{address}&launch=qemu-aarch64-static&folder={tmp_path}/there"
        ) as solver,
    ):
        y = tiny.problems(2)
        assert solver(y) == pytest.approx(tiny.solve(y), abs=1e-6)
        assert solver.profile({"y": y}, repeats=3).seconds_p50 is not None


def test_a_board_that_disappears_leaves_what_was_measured(model: Path, tiny: Any) -> None:
    def leaves(board: FakeBoard, request: Frame) -> bytes | None:
        profiles = sum(r.kind == Request.PROFILE for r in board.requests)
        return None if profiles > 6 else board.right(request)

    artifact = unfoldc.compile(model, target="stm32f407").artifact
    with FakeBoard(artifact, leaves) as board:
        solver = unfoldc.compile(model, target="stm32f407", on=f"serial:{board.path}?timeout=2")
        profile = solver.profile({"y": tiny.problems(1)}, repeats=100)
        with pytest.raises(DeviceError):
            solver(tiny.problems(1))
    assert profile.repeats == 8  # two in an answer; one answer and a half were to warm up
    assert "ended after 8 of 100 repetitions" in profile.note and "connection was closed" in str(profile)
    row = profile.iterations[1]  # it counts 1, 2, 3, 4, 5 cycles, at 168 MHz
    assert (row.cycles_p50, profile.cycles_p50) == (3, 15) and row.seconds_p50 == pytest.approx(3 / 168e6)


def test_the_commands_take_an_address(
    built: Path, model: Path, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    y = tiny.problems(2)
    np.save(tmp_path / "y.npy", y)
    files = [str(built), str(tmp_path / "y.npy")]
    assert cli.main(["run", *files, "--on", "local", "-o", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy") == pytest.approx(tiny.solve(y), abs=1e-6)
    assert cli.main(["profile", *files, "--on", "local", "--repeats", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.partition("\n")[2].partition("\n")[2])
    assert (found["on"], found["repeats"]) == ("local", 5)
    assert cli.main(["compile", str(model), "--on", "local", "-o", str(tmp_path / "build")]) == 0
    capsys.readouterr()
    assert cli.main(["profile", str(tmp_path / "build"), "--on", "local", "--repeats", "5"]) == 0
    assert "on local" in capsys.readouterr().out
    assert cli.main(["run", *files, "--on", "serial:/dev/no-such-port"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("unfoldc: serial:/dev/no-such-port: it cannot be opened") and said.count("\n") == 1


def runners(built: Path) -> set[int]:
    """Processes that run the runner in the folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes().startswith(str(built / "remote").encode()):
                found.add(int(entry.name))
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    finish = time.monotonic() + 60
    while not (met := condition()) and time.monotonic() < finish:
        time.sleep(0.02)
    return met


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_command_that_is_interrupted_leaves_no_runner(built: Path, number: int, status: int) -> None:
    command = [sys.executable, "-m", "unfoldc", "profile", str(built), "--on", "local", "--repeats", "1000000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert eventually(lambda: bool(runners(built)))
        process.send_signal(number)
        said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said[0] == "" and "Traceback" not in said[1]
    assert eventually(lambda: not runners(built))
