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
from unfoldc.targets.remote.protocol import (
    ANSWER,
    FRAME_BYTES,
    VERSION,
    Damaged,
    Frame,
    Hello,
    Parser,
    Refusal,
    Request,
)
from unfoldc.targets.remote.runner_sources import identity, port_bytes

_TRIES = 3
_HELLO_BYTES = 1 << 20
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
        self._sequence = int(time.monotonic_ns()) & 0xFFFF  # what an earlier session left has another number
        self._inputs_there = b""
        sizes = [port_bytes(p) for p in (*artifact.inputs, *artifact.outputs)]
        self._most = sum(sizes) + 64
        self._parser = Parser(limit=_HELLO_BYTES)
        try:
            self.hello = self._greet(start, pad)
            self._check(self.hello)
        except BaseException:
            self.close()
            raise
        self._parser.limit = max(sum(sizes), 8 * self.hello.rows * (artifact.iterations + 2)) + 64

    def close(self) -> None:
        """Give the channel back."""
        self.channel.close()

    def solve(self, inputs: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
        """The outputs for one problem, each of its port's shape."""
        answer = self._run(Request.SOLVE, struct.pack("<I", iterations), _joined(inputs))
        ports = self.artifact.outputs
        if len(answer) != sum(map(port_bytes, ports)):
            raise self._wrong(f"it answered {len(answer)} bytes of outputs")
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
                    raise self._wrong(f"it answered {len(answer)} bytes of times")
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
        except _Refused as refused:
            if refused.refusal == Refusal.UNKNOWN_REQUEST:
                return None
            raise
        return int.from_bytes(answer, "little") if len(answer) == 4 else None

    def _run(self, kind: Request, head: bytes, data: bytes) -> bytes:
        """The answer to a request with these inputs, which are sent unless they are there already."""
        if data == self._inputs_there:
            try:
                return self._exchange(kind, head)
            except _Refused as refused:
                if refused.refusal != Refusal.NO_INPUTS:
                    raise  # else the device has started again meanwhile
        self._inputs_there = b""
        answer = self._exchange(kind, head + data)
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
                payload = self._exchange(Request.HELLO, b"", timeout=max(left, 0.1) if last else HELLO_SECONDS)
            except _Silence:
                if last:
                    raise
                tried += 1
                continue
            try:
                return Hello.unpack(payload)
            except ValueError as error:
                raise self._wrong(str(error)) from None

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

    def _exchange(self, kind: Request, payload: bytes, timeout: float | None = None) -> bytes:
        """The payload of the answer; what was damaged on the way is sent again."""
        limit = self.timeout if timeout is None else timeout
        for left in reversed(range(_TRIES)):
            self._sequence = (self._sequence + 1) & 0xFFFF
            deadline = time.monotonic() + limit
            self.channel.write(Frame(kind, self._sequence, payload).pack(), deadline)
            answer = self._await(deadline, limit)
            damaged = isinstance(answer, Damaged) or answer.error == Refusal.BAD_CHECKSUM
            if not damaged or not left:
                break
        if isinstance(answer, Damaged):
            raise self._wrong(f"{_TRIES} answers in a row came with a wrong checksum")
        if answer.version != VERSION or answer.error == Refusal.WRONG_VERSION:
            raise device_error(
                self.channel.name,
                f"its runner speaks version {answer.version} of the protocol",
                "Build the runner again with this version of unfoldc.",
                f"version {VERSION}",
            )
        if answer.kind != kind + ANSWER:
            raise self._wrong(f"it answered with a frame of kind {answer.kind} to one of kind {int(kind)}")
        if answer.error:
            raise self._refused(answer)
        return answer.payload

    def _await(self, deadline: float, limit: float) -> Frame | Damaged:
        """The answer to the last request; others, from before, are dropped."""
        before, quiet = self._parser.garbage, True
        while True:
            found = self._parser.next()
            if found is not None and found.sequence == self._sequence:
                return found
            if found is not None:
                continue
            data = self.channel.read(deadline)
            quiet = quiet and not data
            self._parser.feed(data)
            if not data:
                garbage = self._parser.garbage - before
                answered = "nothing" if quiet else f"no whole frame, but {garbage} bytes that belong to none"
                raise _Silence(
                    where=self.channel.name,
                    found=f"it answered {answered} within {limit:.3g} s",
                    allowed="a device that runs unfoldc's runner",
                    do="See whether the device runs the runner of this solver and at which rate it speaks; "
                    f"?timeout=SECONDS gives it longer. {self._advice}",
                )

    def _refused(self, answer: Frame) -> DeviceError:
        number = int.from_bytes(answer.payload, "little")
        try:
            refusal = Refusal(answer.error)
        except ValueError:
            return self._wrong(f"it refused for the unknown reason {answer.error}")
        error = _Refused(
            where=self.channel.name,
            found=f"it refused a request: {refusal.text} ({number})",
            allowed="a request that fits the solver on the device",
            do=self._advice,
        )
        error.refusal = refusal
        return error

    def _wrong(self, found: str) -> DeviceError:
        return device_error(self.channel.name, found, "Check the line, and build the runner again.")


class _Silence(DeviceError):
    """No answer came in time."""


class _Refused(DeviceError):
    """The runner refused a request."""

    refusal: Refusal


def _joined(inputs: Sequence[np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)


def _ports(sizes: Sequence[int]) -> str:
    return " + ".join(map(str, sizes)) + " bytes"
