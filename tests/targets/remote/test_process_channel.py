"""Processes as channels that talk without end, leave others behind, or are one of very many files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unfoldc.errors import DeviceError
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.process_channel import ProcessChannel
from unfoldc.targets.remote.ssh import _command

ECHO = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read(3)); sys.stdin.read()"]


@pytest.fixture
def many_files() -> Iterator[None]:
    """So many files open that a new one has a number above 1023."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, before[1]), before[1]))
    null = os.open(os.devnull, os.O_RDONLY)
    opened = [null, *(os.dup(null) for _ in range(1030))]
    yield
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
def test_among_more_than_a_thousand_files() -> None:
    channel = ProcessChannel("echo", ECHO)
    deadline = time.monotonic() + 20
    channel.write(b"abc", deadline)
    assert channel.read(deadline) == b"abc"
    channel.close()


def test_one_that_complains_without_end_is_not_waited_for() -> None:
    channel = ProcessChannel("echo", ECHO)
    zeros = os.open("/dev/zero", os.O_RDONLY)
    os.dup2(zeros, channel._words_from)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(channel.read(time.monotonic() + 0.2)), daemon=True)
    reader.start()
    reader.join(20)
    assert found == [b""]
    os.close(zeros)
    channel.close()


def running(process: int) -> bool:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


def test_what_a_script_has_started_ends_with_it() -> None:
    channel = ProcessChannel("script", ["sh", "-c", "sleep 100 & echo $!; wait"], grace=0.1)
    child = int(channel.read(time.monotonic() + 20))
    assert running(child)
    channel.close()
    finish = time.monotonic() + 10
    while running(child) and time.monotonic() < finish:
        time.sleep(0.02)
    assert not running(child)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceError, match="no-such-program cannot be started"):
        ProcessChannel("local", ["no-such-program"])


def test_a_runner_in_a_folder_of_the_home_there(tmp_path: Path) -> None:
    """The script that ssh is given, run by a shell here."""
    content = b'#!/bin/sh\necho "at $0"\n'
    script = _command(parse_address("ssh://host?folder=~/my%20runners"), content)[-1]
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path / "home")}, input=content,
        capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stdout.decode().splitlines()[-1].startswith(f"at {tmp_path}/home/my runners/unfoldc-")
    assert not (tmp_path / "~").exists()
