"""Frames, and what is no frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.targets.remote.protocol import FRAME_BYTES, Damaged, Frame, Hello, Parser

HELLO = Hello(bytes(range(16)), 7, 32, 24, 168_000_000, 3, 120, (20, 4), (36,), "cycles", "solver")


def frames_in(data: bytes, limit: int = 1 << 20) -> list[Frame | Damaged]:
    parser, found = Parser(limit), []
    parser.feed(data)
    while (one := parser.next()) is not None:
        found.append(one)
    return found


@pytest.mark.parametrize("size", [0, 1, 4, 1000])
def test_a_frame_comes_back(size: int) -> None:
    frame = Frame(2, 65535, bytes(i % 251 for i in range(size)), error=3)
    assert len(frame.pack()) == FRAME_BYTES + size
    assert frames_in(frame.pack()) == [frame]


def test_the_layout_is_that_of_the_documentation() -> None:
    assert Frame(1, 0x0201).pack() == bytes.fromhex("754e6601 01 00 0102 00000000 4de2b6f5 00000000")


def test_frames_arrive_in_any_pieces_between_garbage() -> None:
    rng = np.random.default_rng(0)
    sent, stream = [], b""
    for i in range(50):
        frame = Frame(int(rng.integers(256)), i, rng.bytes(int(rng.integers(60))))
        sent.append(frame)
        stream += rng.bytes(int(rng.integers(30))) + b"uNf"[: int(rng.integers(4))] + frame.pack()
    parser, found = Parser(), []
    while stream:
        n = int(rng.integers(1, 40))
        parser.feed(stream[:n])
        stream = stream[n:]
        while (one := parser.next()) is not None:
            found.append(one)
    assert found == sent
    assert parser.garbage > 0


def test_any_flipped_bit_is_seen() -> None:
    frame = Frame(2, 77, b"some payload")
    packed = frame.pack()
    for bit in range(8 * len(packed)):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 8
        assert frame not in frames_in(bytes(changed))


def test_a_damaged_payload_is_told_from_garbage() -> None:
    packed = bytearray(Frame(2, 77, b"some payload").pack())
    packed[20] ^= 1
    after = Frame(3, 78, b"x")
    assert frames_in(bytes(packed) + after.pack()) == [Damaged(77), after]


def test_a_payload_beyond_the_limit_is_not_waited_for() -> None:
    after = Frame(3, 78, b"x")
    assert frames_in(Frame(2, 77, bytes(100)).pack()[:50] + after.pack(), limit=99) == [after]


def test_the_greeting_comes_back() -> None:
    assert Hello.unpack(HELLO.pack()) == HELLO


@pytest.mark.parametrize("cut", [0, 10, 60, 70])
def test_a_greeting_that_is_cut_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="no greeting"):
        Hello.unpack(HELLO.pack()[:cut])


def test_a_greeting_of_random_bytes_is_refused_or_read() -> None:
    rng, good = np.random.default_rng(1), HELLO.pack()
    for _ in range(300):
        changed = bytearray(good)
        for i in rng.integers(len(good), size=3):
            changed[i] = int(rng.integers(256))
        try:
            Hello.unpack(bytes(changed))
        except ValueError as error:
            assert "greeting" in str(error)
    with pytest.raises(ValueError, match="no repetitions"):
        Hello.unpack(replace(HELLO, rows=0).pack())


@pytest.mark.parametrize("clock", [{"clock_bits": 0}, {"clock_bits": 2**32 - 1}, {"clock_unit": "\x1b[2J"}])
def test_a_greeting_with_a_clock_that_is_none_is_refused(clock: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no greeting: a clock"):
        Hello.unpack(replace(HELLO, **clock).pack())
