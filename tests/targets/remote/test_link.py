from __future__ import annotations

import time

import pytest

from unfoldc.targets.remote.link import Link, Silence
from unfoldc.targets.remote.protocol import Request


class Chatter:
    """A device that sends bytes without end, whatever it is asked; `patience` s after its time the test has failed."""

    name = "chatter"
    patience = 2.0

    def write(self, data: bytes, deadline: float) -> None:
        pass

    def read(self, deadline: float) -> bytes:
        assert time.monotonic() < deadline + self.patience, "it was listened to for too long"
        return b"y" * 64

    def close(self) -> None:
        pass


def test_what_never_stops_talking_is_given_up_in_time() -> None:
    with pytest.raises(Silence, match="no whole frame, but [0-9]+ bytes that belong to none within 0.05 s"):
        Link(Chatter(), "Look.").exchange(Request.HELLO, b"", 0.05)
