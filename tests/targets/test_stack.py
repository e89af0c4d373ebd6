"""The most stack that a firmware takes, from its machine code alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware
from unfoldc.targets.firmware_file import Firmware
from unfoldc.targets.stack import stack_bound
from unfoldc.targets.stack.thumb import code_of, instructions

TARGET = find_target("cortex-m4")
Patch = Callable[[str, str], Artifact]


def built(patched_iterate: Patch, statement: str, folder: Path, before: str = "") -> tuple[Firmware, Artifact]:
    """A solver with that statement in `iterate`, after the definitions `before`."""
    artifact = patched_iterate("cortex-m4", statement)
    text = artifact.sources["solver.c"].replace("void solver_begin", f"{before}\nvoid solver_begin", 1)
    assert isinstance(artifact.sources, dict)
    artifact.sources["solver.c"] = text
    return build_firmware(artifact, TARGET, folder), artifact


def test_no_call_takes_more_than_the_bound(lista: Any, tmp_path: Path) -> None:
    artifact = lista.artifact("cortex-m4")
    firmware = build_firmware(artifact, TARGET, tmp_path)
    measured = Emulator(firmware, artifact, TARGET).count().stack_bytes
    assert firmware.stack_bound_bytes is not None
    assert 0 < measured <= firmware.stack_bound_bytes <= measured + 64


def test_a_call_that_the_inputs_never_reach_counts(patched_iterate: Patch, tmp_path: Path) -> None:
    deep = (
        "__attribute__((noinline)) static float deep(int i) {"
        " volatile unsigned char b[3000]; b[i] = 1; return (float)b[7]; }"
    )
    firmware, artifact = built(patched_iterate, "if (s->y[0] > 2.0f) s->next[0] = deep(s->k);", tmp_path, deep)
    measured = Emulator(firmware, artifact, TARGET).count().stack_bytes
    assert firmware.stack_bound_bytes is not None
    assert measured < 3000 <= firmware.stack_bound_bytes < 3200


@pytest.mark.parametrize(
    ("statement", "before"),
    [
        (
            "s->next[0] = (float)again(s->k);",
            "__attribute__((noinline)) static int again(volatile int n) {"
            " volatile int a[4]; a[n & 3] = n; return n > 0 ? again(n - 1) + a[n & 3] : 0; }",
        ),
        ("pointer(s);", "extern void (*volatile pointer)(solver_state *); void (*volatile pointer)(solver_state *);"),
        ("volatile char b[s->k + 1]; b[s->k] = 1; s->next[0] = (float)b[0];", ""),
    ],
    ids=["recursion", "pointer", "variable length"],
)
def test_there_is_no_bound_where_the_code_does_not_tell(
    patched_iterate: Patch, tmp_path: Path, statement: str, before: str
) -> None:
    assert built(patched_iterate, statement, tmp_path, before)[0].stack_bound_bytes is None


def test_frames_read_from_the_code_are_those_the_compiler_names(patched_iterate: Patch, tmp_path: Path) -> None:
    """So those of the compiler's library, of which it names none, are right as well."""
    use = "s->x[0] = sinf(s->x[0]) + expf(s->x[1]); volatile unsigned char b[5000]; b[s->k] = 1; s->next[1] = b[3];"
    firmware, _ = built(patched_iterate, use, tmp_path, "float sinf(float); float expf(float);")
    named = [f for f in firmware.functions if f.frame_bytes is not None]
    assert len(named) > 8 and len(named) < len(firmware.functions)
    ((start, image), *_) = firmware.image
    for f in named:
        body = image[f.start - start : f.start - start + f.size]
        ends = body.rfind(b"\x70\x47") + 2  # what follows the last return may be constants
        words = instructions(body[: ends if ends > 1 else None], f.start)
        alone = code_of([w for w in words if not calls(w)], f.start, f.start + f.size, None)
        assert stack_bound({f.start: alone}, [f.start]) == f.frame_bytes, f.name


def calls(word: tuple[int, int, int | None]) -> bool:
    """Calls and jumps; without them a bound is a frame."""
    _, first, second = word
    if second is None:
        return first & 0xF000 == 0xD000 or first & 0xF800 == 0xE000
    return first & 0xF800 == 0xF000 and bool(second & 0x8000)


def test_a_stack_that_does_not_fit_is_refused_before_it_runs(patched_iterate: Patch, tmp_path: Path) -> None:
    artifact = patched_iterate("stm32f407", "volatile unsigned char b[131072]; b[s->k] = 1; s->next[0] = (float)b[5];")
    with pytest.raises(
        TargetError, match=r"bytes of RAM \(131\d\d\d of them for the stack\), which is \d+ bytes of RAM too"
    ):
        build_firmware(artifact, find_target("stm32f407"), tmp_path)


HALVES: Mapping[str, tuple[tuple[int, ...], int | None]] = {
    "push {r4, r5, lr}": ((0xB530,), 12),
    "push.w {r4-r11, lr}": ((0xE92D, 0x4FF0), 36),
    "str lr, [sp, #-4]!": ((0xF84D, 0xED04), 4),
    "strd r4, r5, [sp, #-8]!": ((0xE96D, 0x4502), 8),
    "vpush {d8-d11}": ((0xED2D, 0x8B08), 32),
    "vpush {s16}": ((0xED2D, 0x8A01), 4),
    "sub sp, #24": ((0xB086,), 24),
    "sub.w sp, sp, #20000 (as 0x4e00 and 0x20)": ((0xF5AD, 0x4D9C, 0xB088), 20000),
    "subw sp, sp, #1004": ((0xF2AD, 0x3DEC), 1004),
    "add sp, #24; pop {pc}": ((0xB006, 0xBD00), 0),
    "sub.w r1, sp, r0": ((0xEBAD, 0x0100), None),
    "blx r3": ((0x4798,), None),
    "bx lr": ((0x4770,), 0),
    "pop.w {pc}": ((0xF85D, 0xFB04), 0),
    "ldr.w pc, [r0]": ((0xF8D0, 0xF000), None),
    "dls lr, r1; le lr, .-8": ((0xF041, 0xE001, 0xF00F, 0xC005), 0),
}


@pytest.mark.parametrize("text", HALVES)
def test_instructions_are_understood(text: str) -> None:
    halves, taken = HALVES[text]
    code = b"".join(h.to_bytes(2, "little") for h in halves)
    assert stack_bound({64: code_of(tuple(instructions(code, 64)), 64, 128, None)}, [64]) == taken


@pytest.mark.parametrize(
    ("halves", "to"),
    [
        ((0xF000, 0xF89C), 64 + 4 + 0x138),  # bl
        ((0xF7FF, 0xFF9C), 64 + 4 - 200),  # bl backwards
        ((0xF000, 0xB89C), 64 + 4 + 0x138),  # b.w
        ((0xF000, 0x809C), 64 + 4 + 0x138),  # beq.w
        ((0xE09C,), 64 + 4 + 0x138),  # b
        ((0xD07E,), 64 + 4 + 0xFC),  # beq
    ],
)
def test_calls_and_jumps_to_other_functions_count(halves: tuple[int, ...], to: int) -> None:
    code = b"".join(h.to_bytes(2, "little") for h in halves)
    words = tuple(instructions(code, 64))
    other = code_of(((to, 0xB530, None),), to, to + 4, None)
    caller = code_of(words, 64, 64 + len(code), 20)
    assert stack_bound({64: caller, to: other}, [64]) == 32
    assert stack_bound({64: caller}, [64]) is None  # a call to where there is no function


def test_a_loop_is_no_call_and_a_call_of_itself_has_no_bound() -> None:
    for halves, bound in (((0xE7FE,), 20), ((0xF7FF, 0xFFFE), None), ((0xF7FF, 0xBFFE), 20)):
        code = b"".join(h.to_bytes(2, "little") for h in halves)
        words = tuple(instructions(code, 64))
        assert stack_bound({64: code_of(words, 64, 64 + len(code), 20)}, [64]) == bound


def test_constants_between_instructions_are_no_code() -> None:
    code = bytes.fromhex("02b0") + b"\x00\xb5" * 2 + bytes.fromhex("7047")
    assert [at for at, _, _ in instructions(code, 0, [(2, 6)])] == [0, 6]


def test_loops_of_a_cortex_m55_stay_inside_their_function() -> None:
    """dls lr, r0; wls lr, r0, ...; le lr, ...: no calls, although their bits are those of jumps elsewhere."""
    halves = (0xF040, 0xE001, 0xF040, 0xC009, 0xF00F, 0xC00B)
    code = b"".join(half.to_bytes(2, "little") for half in halves)
    found = code_of(tuple(instructions(code, 0x100)), 0x100, 0x100 + len(code), 0)
    assert len(found.steps) == 3
    assert all(step.to is None and step.taken == 0 and not step.anywhere and not step.call for step in found.steps)
