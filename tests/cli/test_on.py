"""`on=` and `--on`: solvers on other machines, which are processes of this one here, and a board that disappears."""

from __future__ import annotations

import contextlib
import functools
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
from loopback_sshd import free_port, sshd
from remote_runners import children, quick_build_runner
from tools_at_hand import needs_tool

import unfoldc
from unfoldc import cli
from unfoldc.errors import DeviceError, InputError, TargetError
from unfoldc.runtime import Status
from unfoldc.targets.remote.protocol import ANSWER, Frame, Request
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


@needs_tool("ssh")
def test_no_runner_is_built_for_a_computer_that_is_not_there(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its C library alone takes a minute."""

    def build(*_: object, **__: object) -> Path:
        raise AssertionError("built")

    monkeypatch.setattr("unfoldc.runtime.remote_runners.build_runner", build)
    with pytest.raises(DeviceError, match="ssh: .*See that `ssh -o BatchMode=yes` connects"):
        unfoldc.compile(model, on=f"ssh://127.0.0.1:{free_port()}")


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


def test_a_board_that_disappears_leaves_what_was_measured(flashed: Path, tiny: Any) -> None:
    def leaves(board: FakeBoard, request: Frame) -> bytes | None:
        profiles = sum(r.kind == Request.PROFILE for r in board.requests)
        return None if profiles > 6 else board.right(request)

    with FakeBoard(unfoldc.load(flashed).artifact, leaves) as board:
        solver = unfoldc.load(flashed, on=f"serial:{board.path}?timeout=2")
        profile = solver.profile({"y": tiny.problems(1)}, repeats=100)
        with pytest.raises(DeviceError):
            solver(tiny.problems(1))
    assert profile.repeats == 8  # two in an answer; one answer and a half were to warm up
    assert "ended after 8 of 100 repetitions" in profile.note and "connection was closed" in str(profile)
    row = profile.iterations[1]  # it counts 1, 2, 3, 4, 5 cycles, at 168 MHz
    assert (row.cycles_p50, profile.cycles_p50) == (3, 15) and row.seconds_p50 == pytest.approx(3 / 168e6)


@pytest.fixture(scope="module")
def flashed(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The solver for an STM32F407, with the firmware for the board."""
    folder = tmp_path_factory.mktemp("flashed")
    onnx.save(tiny.model(), folder / "tiny.onnx")
    solver = unfoldc.compile(folder / "tiny.onnx", target="stm32f407", on="serial:/dev/null", cache=False)
    return solver.save(folder / "saved")


def profile_on(board: FakeBoard, built: Path, tiny: Any, repeats: int = 4) -> Any:
    with board, unfoldc.load(built, on=f"serial:{board.path}?timeout=2") as solver:
        return solver.profile({"y": tiny.problems(1)}, repeats=repeats)


def test_a_board_of_the_list_has_its_sizes_cycles_and_energy(flashed: Path, tiny: Any) -> None:
    artifact = unfoldc.load(flashed).artifact
    profile = profile_on(FakeBoard(artifact), flashed, tiny)
    assert [p.suffix for p in (flashed / "remote").iterdir()] == [".elf"]
    assert (profile.cycles_p50, profile.repeats, profile.note) == (15, 4, "")
    assert profile.flash_bytes and profile.ram_bytes and profile.stack_bound_bytes is not None
    assert profile.flash_limit_bytes == 1 << 20 and "stack not measured" in str(profile)
    assert profile.energy_joules == pytest.approx(15 * profile.iterations[0].energy_joules / 2)


def test_energy_is_that_at_the_boards_clock(flashed: Path, tiny: Any) -> None:
    """The current is known for 168 MHz; a board that runs slower takes as many cycles."""
    artifact, slow = unfoldc.load(flashed).artifact, FakeBoard(unfoldc.load(flashed).artifact)
    slow.other(clock_hz=16_000_000)
    profile, usual = profile_on(slow, flashed, tiny), profile_on(FakeBoard(artifact), flashed, tiny)
    assert profile.seconds_p50 == pytest.approx(15 / 16e6) and usual.seconds_p50 == pytest.approx(15 / 168e6)
    assert profile.energy_joules == pytest.approx(usual.energy_joules)


def test_a_clock_that_stands_still_or_goes_round_is_said(flashed: Path, tiny: Any) -> None:
    def stands(board: FakeBoard, request: Frame) -> bytes:
        if request.kind != Request.PROFILE:
            return board.right(request)
        return Frame(request.kind + ANSWER, request.sequence, bytes(len(request.payload) and 2 * 5 * 8)).pack()

    artifact = unfoldc.load(flashed).artifact
    profile = profile_on(FakeBoard(artifact, stands), flashed, tiny, repeats=2)
    assert "stands still" in profile.note and profile.seconds_p50 is None and profile.cycles_p50 is None
    quick = FakeBoard(artifact)
    quick.other(clock_hz=10**9, clock_bits=8)
    assert "goes round in 256 ns" in profile_on(quick, flashed, tiny).note


def test_a_board_that_leaves_before_its_stack_is_measured_keeps_the_times(flashed: Path, tiny: Any) -> None:
    def leaves(board: FakeBoard, request: Frame) -> bytes | None:
        return None if request.kind == Request.STACK else board.right(request)

    profile = profile_on(FakeBoard(unfoldc.load(flashed).artifact, leaves), flashed, tiny)
    assert profile.cycles_p50 == 15 and "the stack was not measured" in profile.note


def test_a_board_that_measures_its_stack_has_no_bound_of_another_compiler(flashed: Path, tiny: Any) -> None:
    """Its owner may have built it with gcc, whose frames are others than those of our firmware."""

    def deep(board: FakeBoard, request: Frame) -> bytes:
        if request.kind != Request.STACK:
            return board.right(request)
        return Frame(request.kind + ANSWER, request.sequence, (4000).to_bytes(4, "little")).pack()

    profile = profile_on(FakeBoard(unfoldc.load(flashed).artifact, deep), flashed, tiny)
    assert (profile.stack_bytes, profile.stack_bound_bytes) == (4000, None)
    assert "as unfoldc builds it, stack 4000 bytes (measured; no bound is known)" in str(profile)
    assert profile.ram_limit_bytes and profile.ram_bytes
    assert f"fits: {profile.ram_limit_bytes - profile.ram_bytes - 4000} bytes" in str(profile)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_interrupted_leaves_no_runner(built: Path, number: int) -> None:
    command = [sys.executable, "-m", "unfoldc", "profile", str(built), "--on", "local", "--repeats", "1000000000"]
    before = runners(built)
    # What is started in the background of a shell ignores Ctrl-C, and so would the command.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds
    ) as process:
        assert eventually(lambda: bool(runners(built) - before))
        process.send_signal(number)
        said = process.communicate(timeout=60)
    # Python ends by the signal itself, whoever catches it, where it interrupts the making of a class.
    assert process.returncode in ((130, -number) if number == signal.SIGINT else (-number,))
    assert said[0] == "" and "Traceback" not in said[1]
    assert eventually(lambda: runners(built) <= before)
