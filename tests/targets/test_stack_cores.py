"""The most stack that a firmware takes, on each architecture; `test_stack.py` has the details of Thumb code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware
from unfoldc.targets.firmware_file import Firmware
from unfoldc.targets.processors import PROCESSORS
from unfoldc.targets.stack import Code, code_of, stack_bound
from unfoldc.targets.stack.bound import Step

# Each case builds a firmware.
CORES = ("rv32imc", "cortex-a53", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cortex-m0", "rv64gc")))
RISCV, AARCH64 = PROCESSORS["riscv", 32], PROCESSORS["aarch64", 64]
Patch = Callable[[str, str], Artifact]
DEEP = (
    "__attribute__((noinline)) static float deep(int i) {"
    " volatile unsigned char b[3000]; b[i] = 1; return (float)b[7]; }"
)


def built(patched: Patch, core: str, statement: str, folder: Path, before: str = "") -> tuple[Firmware, Artifact]:
    """A solver with that statement in `iterate`, after the definitions `before`."""
    artifact = patched(core, statement)
    assert isinstance(artifact.sources, dict)
    text = artifact.sources["solver.c"].replace("void solver_begin", f"{before}\nvoid solver_begin", 1)
    artifact.sources["solver.c"] = text
    return build_firmware(artifact, find_target(core), folder), artifact


@pytest.mark.parametrize("core", CORES)
def test_the_bound_holds_and_counts_calls_that_the_inputs_never_reach(
    patched_iterate: Patch, core: str, tmp_path: Path
) -> None:
    use = "if (s->y[0] > 2.0f) s->next[0] = deep(s->k); s->x[1] = expf(s->x[1]);"
    firmware, artifact = built(patched_iterate, core, use, tmp_path, f"float expf(float);{DEEP}")
    measured = Emulator(firmware, artifact, find_target(core)).count().stack_bytes
    assert firmware.stack_bound_bytes is not None
    assert measured < 3000 <= firmware.stack_bound_bytes < 3300


@pytest.mark.parametrize("core", CORES)
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
    patched_iterate: Patch, tmp_path: Path, core: str, statement: str, before: str
) -> None:
    assert built(patched_iterate, core, statement, tmp_path, before)[0].stack_bound_bytes is None


@pytest.mark.parametrize("core", CORES)
def test_frames_read_from_the_code_are_those_the_compiler_names(
    patched_iterate: Patch, core: str, tmp_path: Path
) -> None:
    """So those of the compiler's library, of which it names none, are right as well."""
    use = "s->x[0] = sinf(s->x[0]) + expf(s->x[1]); volatile unsigned char b[400]; b[s->k] = 1; s->next[1] = b[3];"
    firmware, _ = built(patched_iterate, core, use, tmp_path, "float sinf(float); float expf(float);")
    target = find_target(core)
    assert target.core is not None
    processor = PROCESSORS[target.core.architecture, target.spec.word_bits]
    named = [f for f in firmware.functions if f.frame_bytes is not None]
    assert len(named) > 8 and len(named) < len(firmware.functions)
    ((start, image), *_) = firmware.image
    for f in named:
        code = code_of(processor, image[f.start - start : f.start - start + f.size], f.start, [], None)
        steps = [Step() if s.to is not None else s for s in code.steps if not s.anywhere]
        if core == "cortex-m0":  # constants behind the last return look like instructions
            assert sum(s.taken or 0 for s in steps) >= (f.frame_bytes or 0), f.name
            continue
        assert stack_bound({f.start: Code(f.start, code.end, tuple(steps), None)}, [f.start]) == f.frame_bytes, f.name


# Text for the reader; code as bytes in memory; the step at its address 0x100.
RISCV_STEPS = {
    "c.addi sp, -16": ("4111", Step(16)),
    "c.addi16sp sp, -64": ("3971", Step(64)),
    "addi sp, sp, -1024": ("130101c0", Step(1024)),
    "addi sp, sp, 1024": ("13010140", Step(0)),
    "addi sp, s0, -48": ("130104fd", Step(0)),
    "sub sp, sp, t0": ("33015140", Step(None)),
    "c.mv sp, a0": ("2a81", Step(None)),
    "jal ra, .+8": ("ef008000", Step(to=0x108, call=True)),
    "j .+8": ("6f008000", Step(to=0x108)),
    "c.j .-2": ("fdbf", Step(to=0xFE)),
    "beq a0, a1, .+8": ("6304b500", Step(to=0x108)),
    "c.jr ra": ("8280", Step()),
    "c.jr a5": ("8287", Step(anywhere=True)),
    "c.jalr a0": ("0295", Step(anywhere=True)),
}
AARCH64_STEPS = {
    "sub sp, sp, #32": ("ff8300d1", Step(32)),
    "sub sp, sp, #1, lsl #12": ("ff0740d1", Step(4096)),
    "add sp, sp, #32": ("ff830091", Step(0)),
    "stp x29, x30, [sp, #-32]!": ("fd7bbea9", Step(32)),
    "str d8, [sp, #-32]!": ("e80f1efc", Step(32)),
    "mov sp, x29": ("bf030091", Step(0)),
    "mov sp, x9": ("3f010091", Step(None)),
    "sub sp, sp, x9": ("ff6329cb", Step(None)),
    "bl .+8": ("02000094", Step(to=0x108, call=True)),
    "b .+8": ("02000014", Step(to=0x108)),
    "b.eq .+8": ("40000054", Step(to=0x108)),
    "cbz x0, .+8": ("400000b4", Step(to=0x108)),
    "tbz w0, #3, .+8": ("40001836", Step(to=0x108)),
    "ret": ("c0035fd6", Step()),
    "br x0": ("00001fd6", Step(anywhere=True)),
    "blr x0": ("00003fd6", Step(anywhere=True)),
}


@pytest.mark.parametrize("text", RISCV_STEPS)
def test_riscv_instructions_are_understood(text: str) -> None:
    code, step = RISCV_STEPS[text]
    assert code_of(RISCV, bytes.fromhex(code), 0x100, [], None).steps == (step,)


@pytest.mark.parametrize("text", AARCH64_STEPS)
def test_aarch64_instructions_are_understood(text: str) -> None:
    code, step = AARCH64_STEPS[text]
    assert code_of(AARCH64, bytes.fromhex(code), 0x100, [], None).steps == (step,)


def test_a_pair_of_instructions_reaches_what_is_far() -> None:
    # auipc ra, 1; jalr ra, ra, 8; then auipc t1, 0; jr t1, -4
    code = bytes.fromhex("97100000 e7808000 17030000 6700c3ff")
    steps = code_of(RISCV, code, 0x100, [], None).steps
    assert steps == (Step(), Step(to=0x1108, call=True), Step(), Step(to=0x104))
    # another instruction between them: the register may hold anything
    split = bytes.fromhex("97100000 0100 e7808000")
    assert code_of(RISCV, split, 0x100, [], None).steps[-1] == Step(anywhere=True)


def test_aligning_a_frame_may_lose_the_alignment() -> None:
    assert code_of(AARCH64, bytes.fromhex(["ffcb7f92", "3fe97b92"][1]), 0, [], None).alignment == 32
    assert code_of(RISCV, bytes.fromhex("137101fe"), 0, [], None).alignment == 32


def test_a_long_jump_of_a_cortex_m0_is_no_call_of_itself() -> None:
    step = Step(to=72, call=True)
    assert stack_bound({64: Code(64, 4000, (step,), 20)}, [64]) == 20
    assert stack_bound({64: Code(64, 4000, (Step(to=64, call=True),), 20)}, [64]) is None


def test_the_loops_of_a_cortex_m55_are_no_calls(lista: Any, tmp_path: Path) -> None:
    firmware = build_firmware(lista.artifact("cortex-m55"), find_target("cortex-m55"), tmp_path)
    assert firmware.stack_bound_bytes is not None and 0 < firmware.stack_bound_bytes < 1024
