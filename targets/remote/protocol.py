"""What a computer and a runner say to each other: frames with a checksum, requests, answers. No input or output here.

A frame, little-endian: `uNf` and the version (4 bytes), kind (1), error (1), sequence number (2), length of the payload
(4), CRC-32 of these 12 bytes (4), the payload, its CRC-32 (4). An answer has its request's sequence number and its kind
+ 128. Docs: docs/remote.md; the other side: targets/device/unfoldc_runner.c.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"uNf"
VERSION = 1
ANSWER = 128
_HEADER = struct.Struct("<3sBBBHI")
HEADER_BYTES = _HEADER.size + 4
FRAME_BYTES = HEADER_BYTES + 4
"""Bytes of a frame around its payload."""


class Request(IntEnum):
    """Kinds of requests.

    HELLO: who is there (`Hello`). SOLVE: iterations [and inputs] -> outputs. PROFILE: iterations, repetitions [and
    inputs] -> for each repetition K + 2 counts of 64 bits. STACK: iterations [and inputs] -> bytes of stack of a solve.
    Numbers have 32 bits; without inputs the last ones are taken.
    """

    HELLO = 1
    SOLVE = 2
    PROFILE = 3
    STACK = 4


class Refusal(IntEnum):
    """Why a runner refuses a request; `text` says it in words."""

    BAD_CHECKSUM = 1
    UNKNOWN_REQUEST = 2
    WRONG_LENGTH = 3
    WRONG_ITERATIONS = 4
    WRONG_REPEATS = 5
    NO_INPUTS = 6
    WRONG_VERSION = 7

    @property
    def text(self) -> str:
        """The reason as a phrase."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Frame:
    """One frame; `error` is 0 or a `Refusal`, whose number is the payload."""

    kind: int
    sequence: int
    payload: bytes = b""
    error: int = 0
    version: int = VERSION

    def pack(self) -> bytes:
        """The bytes of the frame."""
        fields = (MAGIC, self.version, self.kind, self.error, self.sequence, len(self.payload))
        header = _HEADER.pack(*fields)
        return b"".join((header, _crc(header), self.payload, _crc(self.payload)))


@dataclass(frozen=True)
class Damaged:
    """A frame of which the header is whole and the payload is not."""

    sequence: int


class Parser:
    """Takes bytes as they come and finds the frames in them; what is no frame is skipped and counted in `garbage`.

    A payload of more than `limit` bytes is not waited for: such a header counts as garbage.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.garbage = 0
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._bytes += data

    def next(self) -> Frame | Damaged | None:
        """The next frame; None where more bytes are needed."""
        while True:
            start = self._bytes.find(MAGIC)
            keep = len(MAGIC) - 1  # the end may be the start of a header
            self._skip(max(0, len(self._bytes) - keep) if start < 0 else start)
            if start < 0 or len(self._bytes) < HEADER_BYTES:
                return None
            header = bytes(self._bytes[: _HEADER.size])
            _, version, kind, error, sequence, length = _HEADER.unpack(header)
            if self._bytes[_HEADER.size : HEADER_BYTES] != _crc(header) or length > self.limit:
                self._skip(1)
                continue
            end = HEADER_BYTES + length
            if len(self._bytes) < end + 4:
                return None
            payload, crc = bytes(self._bytes[HEADER_BYTES:end]), self._bytes[end : end + 4]
            whole = crc == _crc(payload)
            del self._bytes[: end + 4]
            return Frame(kind, sequence, payload, error, version) if whole else Damaged(sequence)

    def _skip(self, n: int) -> None:
        self.garbage += n
        del self._bytes[:n]


@dataclass(frozen=True)
class Hello:
    """Who answers: which solver, for how many iterations, with which ports (bytes), what its clock counts.

    `rows`: repetitions that one answer holds. `clock_hz`: counts per second (0: not known there). `stamp_ticks`: counts
    that a time stamp takes. `identity`: see `runner_sources.identity`.
    """

    identity: bytes
    iterations: int
    rows: int
    clock_bits: int
    clock_hz: int
    stamp_ticks: int
    state_bytes: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    clock_unit: str
    symbol: str

    _NUMBERS = struct.Struct("<16sIIIQIIII")

    def pack(self) -> bytes:
        """The payload of the answer."""
        numbers = (self.iterations, self.rows, self.clock_bits, self.clock_hz, self.stamp_ticks, self.state_bytes)
        counts = (len(self.inputs), len(self.outputs))
        sizes = (*self.inputs, *self.outputs)
        texts = b"".join(text.encode() + b"\0" for text in (self.clock_unit, self.symbol))
        return self._NUMBERS.pack(self.identity, *numbers, *counts) + struct.pack(f"<{len(sizes)}I", *sizes) + texts

    @classmethod
    def unpack(cls, payload: bytes) -> Hello:
        """Read the payload; ValueError where it is none."""
        try:
            found = cls._NUMBERS.unpack_from(payload)
            identity, iterations, rows, bits, hz, stamp, state, inputs, outputs = found
            sizes = struct.unpack_from(f"<{inputs + outputs}I", payload, cls._NUMBERS.size)
            texts = payload[cls._NUMBERS.size + 4 * len(sizes) :]
            unit, symbol, rest = texts.decode("ascii").split("\0")
        except (struct.error, ValueError, MemoryError) as error:
            raise ValueError(f"no greeting: {error}") from None
        if rest or len(unit) > 20 or len(symbol) > 40:
            raise ValueError("no greeting: texts of the wrong length")
        if rows < 1:
            raise ValueError("no greeting: it gives no repetitions")
        if not 1 <= bits <= 64 or not unit.isprintable():
            raise ValueError(f"no greeting: a clock of {bits} bits that counts {unit!r}")
        ports = (sizes[:inputs], sizes[inputs:])
        return cls(identity, iterations, rows, bits, hz, stamp, state, *ports, unit, symbol)


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
