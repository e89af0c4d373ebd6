"""Boards at a serial port: one that QEMU emulates, and one that fails in every way."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_board import emulated
from fake_board import Answer, FakeBoard
from remote_runners import job
from tools_at_hand import needs_tool

from unfoldc.errors import DeviceError, InputError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.description import MemoryRegion
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.board_runner import Board, board_of, build_board_runner
from unfoldc.targets.remote.connect import connect
from unfoldc.targets.remote.device import Device
from unfoldc.targets.remote.protocol import ANSWER, Frame, Refusal, Request

STM32F407 = board_of(find_target("stm32f407"))
assert STM32F407 is not None
Y = np.arange(5, dtype=np.float32)


def plug(board: FakeBoard, artifact: Artifact, options: str = "timeout=1") -> Device:
    return connect(parse_address(f"serial:{board.path}?{options}"), job(artifact, Path()))


def greeting_only(then: Answer) -> Answer:
    """A board that greets as it should and then does something else."""
    return lambda board, r: board.right(r) if r.kind == Request.HELLO else then(board, r)


# QEMU has no cycle counter in its Cortex-M: SysTick counts instead, in the time of the emulated board.
MPS2_AN386 = Board(
    "port_cmsdk_uart.c", ("UNFOLDC_CLOCK_SYSTICK",), MemoryRegion(0, 4 << 20), MemoryRegion(0x2000_0000, 4 << 20)
)
# QEMU has the nRF52's predecessor, whose UART is the same.
NRF51 = Board("port_nrf52.c", (), MemoryRegion(0, 256 << 10), MemoryRegion(0x2000_0000, 16 << 10))
SLOWER = replace(STM32F407, macros=(*STM32F407.macros, "UNFOLDC_CLOCK_SYSTICK"))  # QEMU has no cycle counter


@needs_tool("qemu-system-arm")
@pytest.mark.parametrize(
    ("machine", "target", "board", "before", "hz"),
    [
        ("mps2-an386", "cortex-m4", MPS2_AN386, 0, 0),
        ("netduinoplus2", "stm32f407", SLOWER, 1, 16_000_000),
        ("microbit", "cortex-m0", NRF51, 0, 0),
    ],
)
def test_an_emulated_board_solves_and_counts_its_cycles(
    machine: str, target: str, board: Board, before: int, hz: int, lista: Any, problems: np.ndarray, tmp_path: Path
) -> None:
    artifact = lista.artifact(target)
    elf = build_board_runner(artifact, find_target(target), board, tmp_path)
    with emulated(("qemu-system-arm", "-M", machine), elf, before) as port:
        for y in problems[:2]:  # a connection each: the board goes on
            device = connect(parse_address(f"serial:{port}?timeout=20"), job(artifact, elf, target))
            for k in (0, 3, 4):
                assert device.solve([y], k)[0] == pytest.approx(lista.solve(y, k), abs=1e-6)
            found = device.profile([y], 4, repeats=3)
            assert (found.hello.clock_unit, found.hello.clock_bits, found.hello.clock_hz) == ("cycles", 24, hz)
            assert found.counts.shape == (3, 6) and found.counts[:, 1:5].all()
            stack = device.stack([y], 4)
            assert stack is not None and 0 < stack < 1024
            device.close()


def test_another_solver_on_a_board_of_the_list_says_what_to_flash(lista: Any) -> None:
    artifact = lista.artifact("stm32f407")
    with FakeBoard(artifact) as board:
        board.other(identity=bytes(16))
        with pytest.raises(DeviceError, match="with other code or weights.*Flash /some/where.elf"):
            connect(parse_address(f"serial:{board.path}"), job(artifact, Path("/some/where.elf"), "stm32f407"))


def test_a_board_that_works(artifact: Artifact) -> None:
    with FakeBoard(artifact) as board:
        device = plug(board, artifact)
        assert (device.solve([Y], 4)[0] == 0.5).all()
        assert device.profile([Y], 4, repeats=5).counts.tolist() == [[1, 2, 3, 4, 5, 6]] * 5
        device.close()
        sizes = [len(r.payload) for r in board.requests if r.kind != Request.HELLO]
    assert sizes == [24, 8, 8, 8]  # the inputs went there once


def noise(board: FakeBoard, request: Frame) -> bytes:
    return bytes(range(256))


def silence(board: FakeBoard, request: Frame) -> bytes:
    return b""


def cut(board: FakeBoard, request: Frame) -> bytes:
    return board.right(request)[:-3]


def wrong_checksum(board: FakeBoard, request: Frame) -> bytes:
    return board.right(request)[:-1] + b"\0"


def wrong_kind(board: FakeBoard, request: Frame) -> bytes:
    return Frame(17, request.sequence).pack()


def too_short(board: FakeBoard, request: Frame) -> bytes:
    return Frame(request.kind + ANSWER, request.sequence, b"1234").pack()


def refuses(board: FakeBoard, request: Frame) -> bytes:
    return Frame(request.kind + ANSWER, request.sequence, (7).to_bytes(4, "little"), Refusal.WRONG_ITERATIONS).pack()


def refuses_strangely(board: FakeBoard, request: Frame) -> bytes:
    return Frame(request.kind + ANSWER, request.sequence, b"", 99).pack()


def hears_badly(board: FakeBoard, request: Frame) -> bytes:
    return Frame(request.kind + ANSWER, request.sequence, bytes(4), Refusal.BAD_CHECKSUM).pack()


def disappears(board: FakeBoard, request: Frame) -> None:
    return None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (silence, "answered nothing within 0.3 s"),
        (noise, "no whole frame, but 25[0-9] bytes"),
        (cut, "no whole frame"),
        (wrong_checksum, "3 answers in a row came with a wrong checksum"),
        (wrong_kind, "a frame of kind 17 to one of kind 2"),
        (too_short, "4 bytes of outputs"),
        (refuses, r"wrong iterations \(7\)"),
        (refuses_strangely, "unknown reason 99"),
        (hears_badly, "bad checksum"),
        (disappears, "connection was closed"),
    ],
)
def test_a_board_that_fails_is_named_in_time(artifact: Artifact, answer: Answer, found: str) -> None:
    with FakeBoard(artifact, greeting_only(answer)) as board:
        device = plug(board, artifact, "timeout=0.3")
        with pytest.raises(DeviceError, match=found) as error:
            device.solve([Y], 4)
        assert board.path in error.value.where
        device.close()


@pytest.mark.parametrize(("answer", "found"), [(silence, "answered nothing"), (noise, "no whole frame")])
def test_a_port_without_a_runner_is_named_in_time(artifact: Artifact, answer: Answer, found: str) -> None:
    with FakeBoard(artifact, answer) as board, pytest.raises(DeviceError, match=found):
        plug(board, artifact, "timeout=0.5")


def test_another_solver_on_the_board_is_refused(artifact: Artifact) -> None:
    with FakeBoard(artifact) as board:
        board.other(identity=bytes(16), iterations=9, symbol="other", inputs=(8, 4))
        with pytest.raises(
            DeviceError, match=r"'other' of 9 iterations, 8 \+ 4 bytes -> 36 bytes; allowed: 'solver' of 4"
        ):
            plug(board, artifact)


def test_another_version_of_the_protocol_is_refused(artifact: Artifact) -> None:
    def newer(board: FakeBoard, request: Frame) -> bytes:
        return Frame(request.kind + ANSWER, request.sequence, bytes(4), Refusal.WRONG_VERSION, version=2).pack()

    with FakeBoard(artifact, newer) as board, pytest.raises(DeviceError, match="speaks version 2"):
        plug(board, artifact)


def test_what_is_damaged_on_the_way_is_sent_again(artifact: Artifact) -> None:
    def noisy(board: FakeBoard, request: Frame) -> bytes:
        if request.kind == Request.SOLVE and len(board.requests) % 3 == 0:
            return board.right(request)
        damaged = hears_badly if len(board.requests) % 3 == 1 else wrong_checksum
        return damaged(board, request) if request.kind == Request.SOLVE else board.right(request)

    with FakeBoard(artifact, noisy) as board:
        device = plug(board, artifact)
        assert (device.solve([Y], 4)[0] == 0.5).all()
        device.close()


def test_answers_from_before_are_dropped(artifact: Artifact) -> None:
    def late(board: FakeBoard, request: Frame) -> bytes:
        old = Frame(Request.SOLVE + ANSWER, (request.sequence - 1) & 0xFFFF, bytes(36))
        return b"start-up text\r\n" + old.pack() + board.right(request)

    with FakeBoard(artifact, late) as board:
        device = plug(board, artifact)
        assert (device.solve([Y], 4)[0] == 0.5).all()
        device.close()


def test_a_board_that_waits_for_the_rest_of_an_old_frame_is_woken(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unfoldc.targets.remote.device.HELLO_SECONDS", 0.2)
    with FakeBoard(artifact, deaf=130) as board:
        plug(board, artifact, "timeout=5").close()
        assert bytes(100) in board.heard


def test_a_board_that_started_again_gets_the_inputs_again(artifact: Artifact) -> None:
    def forgetful(board: FakeBoard, request: Frame) -> bytes:
        if request.kind == Request.SOLVE and len(request.payload) == 4:
            return Frame(request.kind + ANSWER, request.sequence, bytes(4), Refusal.NO_INPUTS).pack()
        return board.right(request)

    with FakeBoard(artifact, forgetful) as board:
        device = plug(board, artifact)
        for _ in range(2):
            assert (device.solve([Y], 4)[0] == 0.5).all()
        device.close()


@pytest.mark.parametrize("failing", [disappears, silence, noise, wrong_checksum])
def test_what_was_measured_before_a_board_fails_is_kept(artifact: Artifact, failing: Answer) -> None:
    def after_three(board: FakeBoard, request: Frame) -> bytes | None:
        return failing(board, request) if len(board.requests) > 4 else board.right(request)

    with FakeBoard(artifact, after_three) as board:
        device = plug(board, artifact, "timeout=0.3")
        found = device.profile([Y], 4, repeats=100)
        assert found.counts.tolist() == [[1, 2, 3, 4, 5, 6]] * 6
        assert isinstance(found.failure, DeviceError) and found.failure.partial is found.counts
        device.close()


def test_whatever_a_board_sends_the_answer_is_right_or_an_error(artifact: Artifact) -> None:
    rng = np.random.default_rng(0)

    def mutates(board: FakeBoard, request: Frame) -> bytes:
        data = bytearray(board.right(request))
        for _ in range(int(rng.integers(3))):
            kind, i = int(rng.integers(3)), int(rng.integers(len(data)))
            if kind == 0:
                data[i] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del data[i]
            else:
                data[i:i] = rng.bytes(int(rng.integers(1, 9)))
        return bytes(data)

    outcomes = set()
    for _ in range(12):
        with FakeBoard(artifact, greeting_only(mutates)) as board:
            device = plug(board, artifact, "timeout=0.1")
            try:
                assert (device.solve([Y], 4)[0] == 0.5).all()
                found = device.profile([Y], 4, repeats=4)
                assert found.counts.tolist() == [[1, 2, 3, 4, 5, 6]] * len(found.counts)
                outcomes.add(found.failure is None)
            except DeviceError:
                outcomes.add(False)
            device.close()
    assert outcomes == {True, False}


def test_a_port_is_used_by_one_at_a_time_and_given_back(artifact: Artifact) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with FakeBoard(artifact) as board:
        device = plug(board, artifact)
        with pytest.raises(DeviceError, match="another program uses it"):
            plug(board, artifact)
        device.close()
        plug(board, artifact).close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "found"), [("/dev/no-such-port", "cannot be opened"), ("/dev/null", "no serial port \\(Inapp")]
)
def test_what_is_no_port_is_refused(artifact: Artifact, path: str, found: str) -> None:
    with pytest.raises(DeviceError, match=found):
        connect(parse_address(f"serial:{path}"), job(artifact, Path()))


def test_an_unknown_rate_is_refused(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="115200"):
        connect(parse_address("serial:/dev/null?baud=12345"), job(artifact, Path()))
