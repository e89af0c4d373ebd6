"""Requests and answers over a channel: each waits for a limited time, and what was damaged on the way is sent again."""

from __future__ import annotations

import time

from unfoldc.errors import DeviceError
from unfoldc.targets.remote.channels import Channel, device_error
from unfoldc.targets.remote.protocol import ANSWER, VERSION, Damaged, Frame, Parser, Refusal, Request

_TRIES = 3
_HELLO_BYTES = 1 << 20


class Link:
    """Exchanges frames with the runner behind `channel`. `advice`: what to do where it is no runner of this solver."""

    def __init__(self, channel: Channel, advice: str) -> None:
        self.channel, self._advice = channel, advice
        self._sequence = int(time.monotonic_ns()) & 0xFFFF  # what an earlier session left has another number
        self._parser = Parser(limit=_HELLO_BYTES)

    def expect(self, most: int) -> None:
        """From now on answers have at most so many bytes of payload."""
        self._parser.limit = most

    def exchange(self, kind: Request, payload: bytes, limit: float) -> bytes:
        """The payload of the answer, which may take `limit` seconds. Raises `Silence`, `Refused` and others."""
        for left in reversed(range(_TRIES)):
            self._sequence = (self._sequence + 1) & 0xFFFF
            deadline = time.monotonic() + limit
            self.channel.write(Frame(kind, self._sequence, payload).pack(), deadline)
            answer = self._await(deadline, limit)
            damaged = isinstance(answer, Damaged) or answer.error == Refusal.BAD_CHECKSUM
            if not damaged or not left:
                break
        if isinstance(answer, Damaged):
            raise self.wrong(f"{_TRIES} answers in a row came with a wrong checksum")
        if answer.version != VERSION or answer.error == Refusal.WRONG_VERSION:
            raise device_error(
                self.channel.name,
                f"its runner speaks version {answer.version} of the protocol",
                "Build the runner again with this version of unfoldc.",
                f"version {VERSION}",
            )
        if answer.kind != kind + ANSWER:
            raise self.wrong(f"it answered with a frame of kind {answer.kind} to one of kind {int(kind)}")
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
            if not data or time.monotonic() >= deadline:  # one that never stops talking is not waited for either
                garbage = self._parser.garbage - before
                answered = "nothing" if quiet else f"no whole frame, but {garbage} bytes that belong to none"
                raise Silence(
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
            return self.wrong(f"it refused for the unknown reason {answer.error}")
        error = Refused(
            where=self.channel.name,
            found=f"it refused a request: {refusal.text} ({number})",
            allowed="a request that fits the solver on the device",
            do=self._advice,
        )
        error.refusal = refusal
        return error

    def wrong(self, found: str) -> DeviceError:
        """The error for an answer that makes no sense."""
        return device_error(self.channel.name, found, "Check the line, and build the runner again.")


class Silence(DeviceError):
    """No answer came in time."""


class Refused(DeviceError):
    """The runner refused a request."""

    refusal: Refusal
