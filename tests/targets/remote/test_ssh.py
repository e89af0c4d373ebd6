"""Runners behind a real sshd on this computer: what they answer, how they fail, and that nothing of them stays."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from loopback_sshd import free_port, sshd
from remote_runners import build_with, children, job
from tools_at_hand import needs_tool

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.connect import connect
from unfoldc.targets.remote.device import Device

pytestmark = needs_tool("gcc", "sshd", "ssh")


@dataclass(frozen=True)
class There:
    """The other computer: its address, and a temporary folder of its own in which runners are put."""

    address: str
    place: Path
    artifact: Artifact
    runner: Path

    def device(self, runner: Path | None = None, **options: str) -> Device:
        given = {"folder": str(self.place), "timeout": "20", **options}
        text = self.address + "".join(f"&{key}={quote(value)}" for key, value in given.items())
        return connect(parse_address(text), job(self.artifact, runner or self.runner))

    def left(self) -> list[Path]:
        """What is left there after the sessions have ended."""
        finish = time.monotonic() + 10
        while (found := list(self.place.rglob("*"))) and time.monotonic() < finish:
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def there(artifact: Artifact, runner: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    folder = tmp_path_factory.mktemp("sshd")
    place = folder / "there with spaces"
    place.mkdir()
    with sshd(folder) as address:
        yield There(address, place, artifact, runner)


def test_a_runner_is_brought_there_and_solves(there: There, lista: Any, problems: np.ndarray) -> None:
    before, files = children(), len(os.listdir("/proc/self/fd"))
    device = there.device()
    for y in problems:
        assert device.solve([y], 4)[0] == pytest.approx(lista.solve(y), abs=1e-6)
    found = device.profile([problems[0]], 4, repeats=9)
    assert found.failure is None and found.counts.shape == (9, 6)
    device.close()
    assert there.left() == [] and children() == before
    assert len(os.listdir("/proc/self/fd")) == files


@needs_tool("aarch64-linux-gnu-gcc", "qemu-aarch64-static")
def test_a_runner_for_another_processor_runs_under_its_launcher(
    there: There, lista: Any, problems: np.ndarray, tmp_path: Path
) -> None:
    foreign = build_with("aarch64-linux-gnu-gcc", there.artifact, tmp_path / "aarch64")
    device = there.device(foreign, launch="qemu-aarch64-static")
    assert device.solve([problems[0]], 4)[0] == pytest.approx(lista.solve(problems[0]), abs=1e-6)
    assert (device.hello.clock_unit, device.hello.clock_bits) == ("ticks", 64) and device.hello.clock_hz > 0
    assert device.profile([problems[0]], 4, repeats=3).counts.shape == (3, 6)
    device.close()
    assert there.left() == []


def test_a_runner_that_is_kept_is_brought_once(there: There) -> None:
    said: list[str] = []
    one = job(there.artifact, there.runner)
    address = parse_address(f"{there.address}&folder={quote(str(there.place))}&keep=1&timeout=20")
    for _ in range(2):
        connect(address, type(one)(one.artifact, one.target, one.build, said.append)).close()
    assert [line.split()[0] for line in said] == ["connecting", "copying", "connecting"]
    finish = time.monotonic() + 10
    while len(kept := list(there.place.rglob("*"))) > 2 and time.monotonic() < finish:
        time.sleep(0.05)
    assert len(kept) == 2  # a folder and the runner
    there.device().close()  # without keep
    assert there.left() == []


def test_two_sessions_share_a_runner_and_end_apart(there: There, lista: Any, problems: np.ndarray) -> None:
    first, second = there.device(), there.device()
    first.close()
    assert second.solve([problems[0]], 4)[0] == pytest.approx(lista.solve(problems[0]), abs=1e-6)
    second.close()
    assert there.left() == []


@pytest.fixture
def hanging(lista: Any, tmp_path: Path) -> Path:
    source = lista.artifact("host").sources["solver.c"]
    endless = source.replace("    float a = 0.0f;", "    float a = 0.0f; for (volatile int z = 1; z;) { }", 1)
    assert endless != source
    return build_with("gcc", lista.artifact("host", solver__c=endless), tmp_path / "hanging")


def test_a_solver_that_hangs_is_ended_on_both_sides(there: There, hanging: Path, lista: Any) -> None:
    source = (hanging.parent / "solver.c").read_text()
    endless = There(there.address, there.place, lista.artifact("host", solver__c=source), hanging)
    device = endless.device(timeout="1")
    with pytest.raises(DeviceError, match="nothing within 1 s"):
        device.solve([np.ones(5, np.float32)], 4)
    device.close()
    assert endless.left() == []  # its alarm ends it a second later


def kill_the_session(device: Device) -> None:
    os.killpg(device.channel.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]


def kill_the_runner(device: Device) -> None:
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if b"there with spaces/unfoldc-" in command[0]:
            os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.parametrize(
    ("kill", "found"),
    [
        (kill_the_session, "ssh was ended here by signal 9"),
        (kill_the_runner, "killed, which systems do that run out of memory"),
    ],
)
def test_what_was_measured_before_the_end_is_kept(
    there: There, kill: Callable[[Device], None], found: str, problems: np.ndarray
) -> None:
    device = there.device()
    ended: list[int] = []

    def at(done: int) -> None:
        if done >= 8 and not ended:
            ended.append(done)
            kill(device)

    measured = device.profile([problems[0]], 4, repeats=10**6, progress=at)
    assert measured.failure is not None and found in measured.failure.found
    assert len(measured.counts) >= 8
    device.close()
    assert there.left() == []


def test_a_runner_that_cannot_start_is_named(there: There, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"\x7fELF no program")
    with pytest.raises(DeviceError, match="cannot be started there"):
        there.device(wrong)
    with pytest.raises(DeviceError, match="cannot be started there.*not found"):
        there.device(launch="no-such-emulator")
    assert there.left() == []


def test_a_place_without_memory_is_named(there: There) -> None:
    """The limit holds for the runner alone, which takes more than that before it starts."""
    small = shlex.quote('ulimit -v 200; exec "$0" "$@"')
    with pytest.raises(DeviceError, match="not enough memory to start it"):
        there.device(launch=f"sh -c {small}")
    assert there.left() == []


def test_a_place_without_room_is_named(artifact: Artifact, runner: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    (tmp_path / "there").mkdir()
    with sshd(tmp_path / "sshd", "ForceCommand sh -c 'ulimit -f 100; eval \"$SSH_ORIGINAL_COMMAND\"'") as address:
        full = There(address, tmp_path / "there", artifact, runner)
        with pytest.raises(DeviceError, match="cannot be stored there.*did not take"):
            full.device()
        assert full.left() == []


def test_a_folder_of_somebody_else_is_not_used(there: There) -> None:
    (there.place / f"unfoldc-{os.getuid()}").symlink_to("/tmp")
    with pytest.raises(DeviceError, match="not yours"):
        there.device()
    (there.place / f"unfoldc-{os.getuid()}").unlink()


def test_a_host_that_nobody_knows_or_that_refuses_is_named(there: There, artifact: Artifact, runner: Path) -> None:
    folder = Path(there.address.partition("config=")[2]).parent
    unknown, refused = folder / "unknown", folder / "refused"
    text = (folder / "config").read_text()
    unknown.write_text(text.replace(str(folder / "known"), "/dev/null"))
    refused.write_text(text.replace(f"IdentityFile {folder / 'id'}", f"IdentityFile {folder / 'host'}"))
    before = children()
    for config, found in ((unknown, "Host key verification failed"), (refused, "Permission denied")):
        with pytest.raises(DeviceError, match=f"ssh: .*{found}"):
            there_now = There(there.address.partition("?")[0] + f"?config={config}", there.place, artifact, runner)
            there_now.device()
    with pytest.raises(DeviceError, match="ssh: .*refused"):
        There(f"ssh://127.0.0.1:{free_port()}?config={unknown}", there.place, artifact, runner).device()
    assert children() == before


def test_ctrl_c_ends_everything(there: There, problems: np.ndarray) -> None:
    before = children()
    device = there.device()

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.profile([problems[0]], 4, repeats=10**6, progress=interrupt)
    device.close()
    assert there.left() == [] and children() == before
