"""Runs programs side by side, each in a session of its own, so that what it has started ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, TypeVar

Key = TypeVar("Key")
LATE = "it was not done in time"


def side_by_side(
    commands: Mapping[Key, list[str]], jobs: int, seconds: float = float("inf")
) -> Iterator[tuple[Key, str, float]]:
    """As each ends: its key, the last line of what it said if it failed ("" else), and the seconds that it took.

    `jobs` run at a time, in the order given; after `seconds` those that run are ended, and they and the others `LATE`.
    """
    waiting, running = list(commands.items()), dict[Key, tuple[subprocess.Popen[bytes], IO[bytes], float]]()
    begun = time.perf_counter()
    try:
        while (waiting or running) and time.perf_counter() - begun < seconds:
            while waiting and len(running) < jobs:
                key, command = waiting.pop(0)
                said = tempfile.TemporaryFile()  # noqa: SIM115
                process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
                running[key] = process, said, time.perf_counter()
            time.sleep(0.05)
            for key in [key for key, (process, _, _) in running.items() if process.poll() is not None]:
                process, said, start = running.pop(key)
                yield key, _problem(process.returncode, said), time.perf_counter() - start
        late = [*running, *(key for key, _ in waiting)]
    finally:
        for process, said, _ in running.values():
            end(process)
            said.close()
    yield from ((key, LATE, seconds) for key in late)


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Kill a process that leads a session, and the session."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _problem(status: int, said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    said.close()
    return (lines or [f"it ended with status {status}, without a word"])[-1][:300] if status else ""
