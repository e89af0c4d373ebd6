"""A runner at the other end of a channel, as an object: greet it, solve, time. Every wait has a limit."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.errors import DeviceError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.remote.channels import Channel, device_error
from unfoldc.targets.remote.link import Link, Refused, Silence
from unfoldc.targets.remote.protocol import FRAME_BYTES, Hello, Refusal, Request
from unfoldc.targets.remote.runner_sources import identity, port_bytes

OTHER_SOLVER = "Build the runner for this solver and put it on the device."
HELLO_SECONDS = 1.0
"""How long a first greeting waits before it is sent again: a board may still be starting."""


@dataclass
class Ticks:
    """Counts `(repetitions, K + 2)` of begin, each iteration and end by the clock that `hello` describes.

    `failure` is what ended the measurement early; `seconds`, by the clock here, is what a repetition took with the way
    there and back.
    """

    counts: np.ndarray
    hello: Hello
    failure: DeviceError | None = None
    seconds: float = 0.0


class Device:
    """The runner of `artifact` behind `channel`.

    `timeout`: seconds that one answer may take, `start`: that the first one may. `pad`: whether what was sent earlier
    may be stuck in the device, which then waits for the rest of a frame. `advice`: what to do where it is no runner of
    this solver. Raises `DeviceError`, after which nothing but `close` may be called.
    """

    def __init__(
        self,
        channel: Channel,
        artifact: Artifact,
        *,
        timeout: float = 30.0,
        start: float = 10.0,
        pad: bool = False,
        advice: str = "",
    ) -> None:
        self.channel, self.artifact = channel, artifact
        self.timeout, self._advice = timeout, advice or OTHER_SOLVER
        self._inputs_there = b""
        sizes = [port_bytes(p) for p in (*artifact.inputs, *artifact.outputs)]
        self._most = sum(sizes) + 64
        self._link = Link(channel, self._advice)
        try:
            self.hello = self._greet(start, pad)
            self._check(self.hello)
        except BaseException:
            self.close()
            raise
        self._link.expect(max(sum(sizes), 8 * self.hello.rows * (artifact.iterations + 2)) + 64)

    def close(self) -> None:
        """Give the channel back."""
        self.channel.close()

    def solve(self, inputs: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
        """The outputs for one problem, each of its port's shape."""
        answer = self._run(Request.SOLVE, struct.pack("<I", iterations), _joined(inputs))
        ports = self.artifact.outputs
        if len(answer) != sum(map(port_bytes, ports)):
            raise self._link.wrong(f"it answered {len(answer)} bytes of outputs")
        outputs, at = [], 0
        for port in ports:
            outputs.append(np.frombuffer(answer, port.dtype, port.size, at).reshape(port.shape).copy())
            at += port_bytes(port)
        return outputs

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        iterations: int,
        repeats: int,
        seconds: float = 30.0,
        progress: Callable[[int], None] | None = None,
    ) -> Ticks:
        """Counts of at most `repeats` repetitions, fewer where they take longer than `seconds`.

        Where the device fails after some, these are given with the failure; before, DeviceError is raised.
        """
        rows: list[np.ndarray] = []
        data = _joined(inputs)
        parts, start = self.artifact.iterations + 2, time.monotonic()
        try:
            while len(rows) < repeats and (not rows or time.monotonic() < start + seconds):
                count = min(self.hello.rows, repeats - len(rows))
                answer = self._run(Request.PROFILE, struct.pack("<II", iterations, count), data)
                if len(answer) != 8 * count * parts:
                    raise self._link.wrong(f"it answered {len(answer)} bytes of times")
                rows.extend(np.frombuffer(answer, "<u8").reshape(count, parts))
                if progress is not None:
                    progress(len(rows))
        except DeviceError as failure:
            if not rows:
                raise
            failure.partial = np.array(rows, np.uint64)
            return Ticks(failure.partial, self.hello, failure)
        each = (time.monotonic() - start) / max(len(rows), 1)
        return Ticks(np.array(rows, np.uint64), self.hello, seconds=each)

    def stack(self, inputs: Sequence[np.ndarray], iterations: int) -> int | None:
        """Bytes of stack that a solve takes there; None where the runner cannot tell."""
        try:
            answer = self._run(Request.STACK, struct.pack("<I", iterations), _joined(inputs))
        except Refused as refused:
            if refused.refusal == Refusal.UNKNOWN_REQUEST:
                return None
            raise
        return int.from_bytes(answer, "little") if len(answer) == 4 else None

    def _run(self, kind: Request, head: bytes, data: bytes) -> bytes:
        """The answer to a request with these inputs, which are sent unless they are there already."""
        if data == self._inputs_there:
            try:
                return self._link.exchange(kind, head, self.timeout)
            except Refused as refused:
                if refused.refusal != Refusal.NO_INPUTS:
                    raise  # else the device has started again meanwhile
        self._inputs_there = b""
        answer = self._link.exchange(kind, head + data, self.timeout)
        self._inputs_there = data
        return answer

    def _greet(self, start: float, pad: bool) -> Hello:
        """Say hello until there is an answer; a device that may wait for the rest of an old frame is given zeros."""
        finish = time.monotonic() + start
        tried = 0
        while True:
            left = finish - time.monotonic()
            if pad and tried == 1:
                self.channel.write(bytes(self._most + FRAME_BYTES), time.monotonic() + max(left, 0.0) + 1.0)
            last = not pad or left < 2 * HELLO_SECONDS
            try:
                payload = self._link.exchange(Request.HELLO, b"", max(left, 0.1) if last else HELLO_SECONDS)
            except Silence:
                if last:
                    raise
                tried += 1
                continue
            try:
                return Hello.unpack(payload)
            except ValueError as error:
                raise self._link.wrong(str(error)) from None

    def _check(self, hello: Hello) -> None:
        """Raise DeviceError where the runner is that of another solver."""
        artifact = self.artifact
        if hello.identity == identity(artifact):
            return
        there = f"'{hello.symbol}' of {hello.iterations} iterations, {_ports(hello.inputs)} -> {_ports(hello.outputs)}"
        inputs, outputs = (tuple(map(port_bytes, ports)) for ports in (artifact.inputs, artifact.outputs))
        mine = f"'{artifact.symbol}' of {artifact.iterations} iterations, {_ports(inputs)} -> {_ports(outputs)}"
        same = " with other code or weights" if there == mine else ""
        raise device_error(
            self.channel.name,
            f"another solver is there: {there}{same}",
            self._advice,
            mine,
        )


def _joined(inputs: Sequence[np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)


def _ports(sizes: Sequence[int]) -> str:
    return " + ".join(map(str, sizes)) + " bytes"
