"""A process as a stream of bytes to a device, and what its end means."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from unfoldc.errors import DeviceError
from unfoldc.targets.remote.channels import CHUNK, DescriptorChannel, device_error, ready

MARK = b"unfoldc: "
"""What helpers that start a runner begin their lines with."""
_MOST_WORDS = 4000  # characters of what a process says that are kept
_MOST_CHUNKS = 16  # of it that are read at a time


class ProcessChannel(DescriptorChannel):
    """A process that runs the solver, or leads to one: its standard input and output are the stream.

    It gets a session of its own, so that Ctrl-C at the terminal reaches us alone, who end it in order: by closing its
    input, then by signals. `explain` makes an error of its exit status and of the end of what it said.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        explain: Callable[[str, int, str], DeviceError] | None = None,
        environment: dict[str, str] | None = None,
        grace: float = 2.0,
    ) -> None:
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            raise device_error(
                name,
                f"{command[0]} cannot be started ({error.strerror})",
                f"Install {command[0]}, or correct the name.",
                "an installed program",
            ) from None
        pipes = (self.process.stdin, self.process.stdout, self.process.stderr)
        assert all(pipes)
        # Duplicates, so that Popen's files and ours are closed each once.
        reading, writing, self._words_from = (os.dup(pipe.fileno()) for pipe in (pipes[1], pipes[0], pipes[2]) if pipe)
        for pipe in pipes:
            if pipe:
                pipe.close()
        super().__init__(name, reading, writing)
        os.set_blocking(self._words_from, False)
        self._explain = explain or explain_exit
        self._grace = grace
        self._words = ""
        self._ahead = b""

    def read(self, deadline: float) -> bytes:
        """What has come, at least a byte; empty at the deadline. What the process says on the side is kept."""
        self._check_open()
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        while True:
            sources = [self._in, *([self._words_from] if self._words_from >= 0 else [])]
            found = ready(sources, select.POLLIN, deadline)
            if self._words_from in found:
                self._listen()
            if self._in in found:
                return super().read(deadline)
            if not found or time.monotonic() >= deadline:  # one that talks on the side without end is not waited for
                return b""

    def unread(self, data: bytes) -> None:
        """Let the next `read` begin with these bytes."""
        self._ahead = data + self._ahead

    def words(self) -> str:
        """The end of what the process has said on standard error."""
        if self._words_from >= 0:
            self._listen()
        return self._words

    def gone(self, reason: str) -> DeviceError:
        """Why the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self._grace)
        words = self.words()
        status = self.process.poll()
        if status is None:
            return super().gone(reason)
        return self._explain(self.name, status, words)

    def close(self) -> None:
        """End the process and wait for it."""
        if not self._open:
            return
        super().close()
        with contextlib.suppress(OSError):
            os.close(self._words_from)
        self._words_from = -1
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            if number:
                with contextlib.suppress(OSError):
                    os.killpg(self.process.pid, number)  # what it has started, too: `launch` may name a script
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self._grace)
                return
        self.process.wait()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            for _ in range(_MOST_CHUNKS):
                data = os.read(self._words_from, CHUNK)
                if not data:
                    os.close(self._words_from)
                    self._words_from = -1
                    return
                self._words = (self._words + data.decode("utf-8", "replace"))[-_MOST_WORDS:]


def await_mark(channel: ProcessChannel, deadline: float) -> str:
    """What a helper at the other end says next, on a line that starts with `MARK`; others are skipped."""
    heard = b""
    while True:
        data = channel.read(deadline)
        heard = (heard + data)[-65536:]
        start = heard.find(MARK)
        end = heard.find(b"\n", start)
        if start >= 0 and end >= 0:
            channel.unread(heard[end + 1 :])
            return heard[start + len(MARK) : end].decode("ascii", "replace").strip()
        if not data or time.monotonic() >= deadline:
            raise device_error(
                channel.name,
                "it took longer than the time limit to connect and to start the runner",
                "See whether it can be reached, and is busy; ?timeout=SECONDS gives it longer.",
            )


def explain_exit(name: str, status: int, words: str) -> DeviceError:
    """The error for a runner that ended with this status (negative, or above 128 from a shell: a signal)."""
    number = -status if status < 0 else status - 128
    said = last_line(words)
    if number == signal.SIGALRM:
        return device_error(name, "the request took longer than its time limit", "Give it longer by ?timeout=SECONDS.")
    if number == signal.SIGILL:
        return device_error(
            name,
            "the processor does not know an instruction of the solver",
            "Compile for the processor that is there, or choose one that it can run by ?cpu=.",
            "a processor of the target's kind",
        )
    if number == signal.SIGKILL:
        found = "the solver was killed, which systems do that run out of memory"
        return device_error(name, found, "Free memory on the device, or take a smaller problem.")
    if number in (signal.SIGSEGV, signal.SIGBUS):
        found = "the solver stopped at a wrong address, or there was not enough memory to start it"
        return device_error(name, found, "Free memory on the device; if it stays, report this with the model.")
    if 0 < number < 65:
        with contextlib.suppress(ValueError):
            said = said or signal.Signals(number).name
        return device_error(name, f"the solver stopped by a signal ({said or number})", "Report this with the model.")
    ending = f"it ended with status {status}" + (f": {said}" if said else "")
    return device_error(name, ending, "See whether the runner can run there.")


def last_line(text: str) -> str:
    """The last line that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
