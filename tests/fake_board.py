"""A board at a pseudo-terminal, in Python, that fails as told."""

from __future__ import annotations

import os
import pty
import select
import struct
import threading
import tty
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.remote.protocol import ANSWER, Frame, Hello, Parser, Request
from unfoldc.targets.remote.runner_sources import identity, port_bytes

Answer = Callable[["FakeBoard", Frame], bytes | None]


class FakeBoard:
    """Answers requests with `answer(board, request)`: bytes to send, or None to disappear.

    `path` is the port; `requests` are those that came, `heard` all bytes. Every answer is 0.5, counts are 1, 2, ....
    """

    def __init__(self, artifact: Artifact, answer: Answer | None = None, deaf: int = 0) -> None:
        self.artifact = artifact
        self.hello = Hello(
            identity(artifact), artifact.iterations, 2, 24, 0, 0, 64,
            tuple(map(port_bytes, artifact.inputs)), tuple(map(port_bytes, artifact.outputs)), "cycles", "solver",
        )  # fmt: skip
        self.requests: list[Frame] = []
        self.heard = b""
        self._answer = answer or FakeBoard.right
        self._deaf = deaf  # bytes that it takes for the rest of an old frame
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self._slave = slave  # held open, so that the port stays while nobody else has it open
        self.path = os.ttyname(slave)
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def right(self, request: Frame, error: int = 0) -> bytes:
        """The answer of a board that works."""
        payload = b""
        if request.kind == Request.HELLO:
            payload = self.hello.pack()
        elif request.kind == Request.SOLVE:
            outputs = [np.full(p.size, 0.5, p.dtype).tobytes() for p in self.artifact.outputs]
            payload = b"".join(outputs)
        elif request.kind == Request.PROFILE:
            _, repeats = struct.unpack_from("<II", request.payload)
            payload = repeats * np.arange(1, self.artifact.iterations + 3, dtype="<u8").tobytes()
        return Frame(request.kind + ANSWER, request.sequence, payload, error).pack()

    def other(self, **changes: object) -> None:
        """Greet with other facts."""
        self.hello = replace(self.hello, **changes)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        for descriptor in (self._stop, self._wake):
            os.close(descriptor)
        self._unplug()

    def _unplug(self) -> None:
        if self._master >= 0:
            os.close(self._slave)
            os.close(self._master)
            self._master = -1

    def _run(self) -> None:
        parser = Parser()
        while True:
            if self._stop in select.select([self._master, self._stop], [], [])[0]:
                return
            data = os.read(self._master, 65536)
            self.heard += data
            swallowed = min(self._deaf, len(data))
            self._deaf -= swallowed
            parser.feed(data[swallowed:])
            while (request := parser.next()) is not None:
                assert isinstance(request, Frame)
                self.requests.append(request)
                answer = self._answer(self, request)
                if answer is None:
                    self._unplug()
                    return
                os.write(self._master, answer)
