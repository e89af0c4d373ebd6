"""The C runner under sanitizers: whatever it is sent, it keeps to its memory and answers the next request."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from remote_runners import build_with
from tools_at_hand import needs_tool

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.remote.protocol import ANSWER, Frame, Hello, Parser, Refusal, Request
from unfoldc.targets.remote.runner_sources import identity

pytestmark = needs_tool("gcc")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
Y = np.arange(5, dtype=np.float32)
Ask = Callable[[bytes], list[Frame]]


@pytest.fixture(scope="module")
def ask(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Sends bytes to a new runner; its whole answer, once it has ended in order."""
    program = build_with("gcc", artifact, tmp_path_factory.mktemp("sanitized"), SANITIZE)

    def send(data: bytes) -> list[Frame]:
        done = subprocess.run([program], input=data, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        parser = Parser()
        parser.feed(done.stdout)
        found = []
        while (frame := parser.next()) is not None:
            assert isinstance(frame, Frame)
            found.append(frame)
        assert parser.garbage == 0
        return found

    return send


def solve(sequence: int, iterations: int, inputs: bytes = Y.tobytes()) -> bytes:
    return Frame(Request.SOLVE, sequence, struct.pack("<I", iterations) + inputs).pack()


def test_it_says_which_solver_it_runs(ask: Ask, artifact: Artifact) -> None:
    (answer,) = ask(Frame(Request.HELLO, 9).pack())
    hello = Hello.unpack(answer.payload)
    assert (answer.kind, answer.sequence, answer.error) == (Request.HELLO + ANSWER, 9, 0)
    assert (hello.identity, hello.iterations, hello.symbol) == (identity(artifact), artifact.iterations, "solver")
    assert (hello.inputs, hello.outputs, hello.rows) == ((20,), (36,), 4)
    assert (hello.clock_unit, hello.clock_hz, hello.clock_bits) == ("ns", 10**9, 64)


def test_it_solves_with_the_last_inputs_too(ask: Ask, lista: Any) -> None:
    answers = ask(solve(1, 4) + solve(2, 2, b"") + Frame(Request.PROFILE, 3, struct.pack("<II", 4, 3)).pack())
    for answer, k in zip(answers, (4, 2), strict=False):
        assert np.frombuffer(answer.payload, np.float32) == pytest.approx(lista.solve(Y, k), abs=1e-6)
    assert len(answers[2].payload) == 3 * (4 + 2) * 8


@pytest.mark.parametrize(
    ("request_", "refusal", "number"),
    [
        (solve(1, 4, b""), Refusal.NO_INPUTS, 0),
        (solve(1, 5), Refusal.WRONG_ITERATIONS, 4),
        (solve(1, 4, bytes(19)), Refusal.WRONG_LENGTH, 24),
        (solve(1, 4, bytes(1000)), Refusal.WRONG_LENGTH, 24),
        (Frame(Request.SOLVE, 1).pack(), Refusal.WRONG_LENGTH, 24),
        (Frame(Request.HELLO, 1, b"x").pack(), Refusal.WRONG_LENGTH, 0),
        (Frame(Request.PROFILE, 1, struct.pack("<II", 4, 0) + bytes(20)).pack(), Refusal.WRONG_REPEATS, 4),
        (Frame(Request.PROFILE, 1, struct.pack("<II", 4, 5) + bytes(20)).pack(), Refusal.WRONG_REPEATS, 4),
        (Frame(Request.STACK, 1, struct.pack("<I", 4) + bytes(20)).pack(), Refusal.UNKNOWN_REQUEST, 0),
        (Frame(99, 1).pack(), Refusal.UNKNOWN_REQUEST, 0),
        (Frame(Request.HELLO, 1, version=2).pack(), Refusal.WRONG_VERSION, 1),
        (solve(1, 4)[:-1] + b"\0", Refusal.BAD_CHECKSUM, 0),
        (Frame(Request.HELLO, 1).pack()[:-1] + b"\1", Refusal.BAD_CHECKSUM, 0),
    ],
)
def test_what_does_not_fit_is_refused_and_the_next_request_answered(
    ask: Ask, request_: bytes, refusal: Refusal, number: int
) -> None:
    first, *_, last = ask(request_ + Frame(Request.HELLO, 2).pack())
    assert (Refusal(first.error), int.from_bytes(first.payload, "little"), first.sequence) == (refusal, number, 1)
    assert (last.kind, last.error, last.sequence) == (Request.HELLO + ANSWER, 0, 2)


def test_damaged_inputs_are_forgotten(ask: Ask) -> None:
    answers = ask(solve(1, 4) + solve(2, 4)[:-1] + b"\0" + solve(3, 4, b""))
    assert [a.error for a in answers] == [0, Refusal.BAD_CHECKSUM, Refusal.NO_INPUTS]


def test_a_request_that_ends_early_ends_the_runner(ask: Ask) -> None:
    whole = solve(1, 4)
    for cut in (0, 3, 16, 18, 30, len(whole) - 1):
        assert ask(whole[:cut]) == []


def test_random_bytes_and_mutated_frames(ask: Ask) -> None:
    """Many in one stream, a whole greeting behind each; what was changed may swallow at most what its length says."""
    rng = np.random.default_rng(0)
    seeds = [solve(1, 4), solve(1, 3, b""), Frame(Request.PROFILE, 1, struct.pack("<II", 4, 2) + Y.tobytes()).pack()]
    seeds += [Frame(Request.HELLO, 1).pack(), Frame(Request.STACK, 1, struct.pack("<I", 4)).pack()]
    stream, greetings = b"", 400
    for i in range(greetings):
        kind = i % 4
        data = bytearray(seeds[int(rng.integers(len(seeds)))])
        if kind == 0:
            data = bytearray(rng.bytes(int(rng.integers(200))))
        elif kind == 1:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[int(rng.integers(len(data))) :]
        else:  # whole frames with any kind, any length within, any payload: the checksums are right
            data = bytearray(Frame(int(rng.integers(256)), 1, rng.bytes(int(rng.integers(64)))).pack())
        # What a cut frame still waits for is taken from these zeros, at most a payload and its checksum.
        stream += bytes(data) + bytes(64) + Frame(Request.HELLO, 1000 + i).pack()
    answers = ask(stream)
    greeted = {a.sequence for a in answers if a.kind == Request.HELLO + ANSWER and a.error == 0}
    assert greeted >= set(range(1000, 1000 + greetings))
