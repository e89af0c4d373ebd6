"""What single instructions are counted as, and what the estimates make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from unfoldc.targets import find_target
from unfoldc.targets.boards import all_targets
from unfoldc.targets.instructions import CLASSES, Mix, decode
from unfoldc.targets.instructions.classes import Kind
from unfoldc.targets.processors import PROCESSORS
from unfoldc.targets.timing import Timing, energy, find_timing
from unfoldc.targets.trace import Trace

THUMB, RISCV, AARCH64 = PROCESSORS["thumb", 32], PROCESSORS["riscv", 32], PROCESSORS["aarch64", 64]

# Text for the reader; code as bytes in memory; what it is counted as.
SNIPPETS: dict[str, dict[str, tuple[str, str | tuple[Any, ...]]]] = {
    "thumb": {
        "adds r0, r0, r1": ("4018", "alu"),
        "muls r0, r1, r0": ("4843", "multiply"),
        "smull r0, r1, r2, r3": ("82fb0301", "multiply"),
        "sdiv r0, r1, r1": ("91fbf1f0", "divide"),
        "ldr r0, [r1]": ("0868", "load"),
        "strb r0, [r1]": ("0870", "store"),
        "ldm r1!, {r2, r3}": ("0cc9", ("load multiple", 2)),
        "push {r4, r5, lr}": ("30b5", ("store multiple", 3)),
        "pop {r4, r5, pc}": ("30bd", ("call", 3)),
        "strd r4, r5, [sp, #-8]!": ("6de90245", ("store multiple", 2)),
        "vpush {d8, d9}": ("2ded048b", ("store multiple", 4)),
        "vldmia r0, {s0, s1}": ("90ec020a", ("load multiple", 2)),
        "b .": ("fee7", "branch taken"),
        "bne .": ("fed1", ("branch taken", 0, True)),
        "cbz r0, .": ("00b1", ("branch taken", 0, True)),
        "bl .": ("fff7feff", "call"),
        "bx lr": ("7047", "call"),
        "bx r3": ("1847", "branch taken"),
        "blx r3": ("9847", "call"),
        "ldr.w pc, [r0]": ("d0f800f0", "branch taken"),
        "vadd.f32 s0, s0, s0": ("30ee000a", "float add"),
        "vmul.f32 s0, s0, s0": ("20ee000a", "float multiply"),
        "vfma.f32 s0, s0, s0": ("a0ee000a", "float multiply-add"),
        "vdiv.f32 s0, s0, s0": ("80ee000a", "float divide"),
        "vsqrt.f32 s0, s0": ("b1eec00a", "float root"),
        "vldr s0, [r0]": ("90ed000a", "float load"),
        "vstr s0, [r0]": ("80ed000a", "float store"),
        "vcmp.f32 s0, s0": ("b4ee400a", "float move"),
        "vmrs APSR_nzcv, fpscr": ("f1ee10fa", "float move"),
        "vmaxnm.f32 s0, s0, s0 (Armv8-M)": ("80fe000a", "float move"),
        "dsb": ("bff34f8f", "other"),
    },
    "riscv": {
        "addi a0, a0, 1": ("13051500", "alu"),
        "c.addi a0, 1": ("0505", "alu"),
        "mul a0, a0, a0": ("3305a502", "multiply"),
        "divu a0, a0, a0": ("3355a502", "divide"),
        "lw a0, 0(a0)": ("03250500", "load"),
        "c.sw a0, 0(a0)": ("08c1", "store"),
        "beq a0, a1, .": ("6300b500", ("branch taken", 0, True)),
        "c.j .": ("01a0", "branch taken"),
        "c.jr a0": ("0285", "branch taken"),
        "c.jr ra": ("8280", "call"),
        "jal ra, .": ("ef000000", "call"),
        "jalr ra, 0(a0)": ("e7000500", "call"),
        "jr t1, which is jalr zero, 0(t1)": ("67000300", "branch taken"),
        "fadd.s fa0, fa0, fa0": ("5375a500", "float add"),
        "fmul.s fa0, fa0, fa0": ("5375a510", "float multiply"),
        "fmadd.s fa0, fa0, fa0, fa0": ("4375a550", "float multiply-add"),
        "fdiv.s fa0, fa0, fa0": ("5375a518", "float divide"),
        "fsqrt.s fa0, fa0": ("53750558", "float root"),
        "flw fa0, 0(a0)": ("07250500", "float load"),
        "fsw fa0, 0(a0)": ("2720a500", "float store"),
        "feq.s a0, fa0, fa0": ("5325a5a0", "float move"),
        "csrs mstatus, t0": ("73a00230", "other"),
    },
    "aarch64": {
        "add x0, x0, #1": ("00040091", "alu"),
        "madd w0, w0, w0, w0": ("0000001b", "multiply"),
        "udiv w0, w0, w0": ("0008c01a", "divide"),
        "ldr x0, [x0]": ("000040f9", "load"),
        "ldrsw x0, [x0]": ("000080b9", "load"),
        "str w0, [x0]": ("000000b9", "store"),
        "ldp x0, x1, [sp]": ("e00740a9", ("load multiple", 2)),
        "stp x0, x1, [sp]": ("e00700a9", ("store multiple", 2)),
        "b .": ("00000014", "branch taken"),
        "b.eq .": ("00000054", ("branch taken", 0, True)),
        "cbz x0, .": ("000000b4", ("branch taken", 0, True)),
        "bl .": ("00000094", "call"),
        "ret": ("c0035fd6", "call"),
        "br x0": ("00001fd6", "branch taken"),
        "fadd s0, s0, s0": ("0028201e", "float add"),
        "fmul s0, s0, s0": ("0008201e", "float multiply"),
        "fmadd s0, s0, s0, s0": ("0000001f", "float multiply-add"),
        "fdiv s0, s0, s0": ("0018201e", "float divide"),
        "fsqrt s0, s0": ("00c0211e", "float root"),
        "ldr s0, [x0]": ("000040bd", "float load"),
        "ldr q0, [x0]": ("0000c03d", ("float load", 2)),
        "str s0, [x0]": ("000000bd", "float store"),
        "fcmp s0, s0": ("0020201e", "float move"),
        "fmla v0.4s, v0.4s, v0.4s": ("00cc204e", "vector"),
        "fadd v0.4s, v0.4s, v0.4s": ("00d4204e", "vector"),
        "fdiv v0.4s, v0.4s, v0.4s": ("00fc206e", "float divide"),
        "movi v0.2d, #0": ("00e4006f", "vector"),
        "nop": ("1f2003d5", "other"),
    },
}
CASES = [(a, text) for a, snippets in SNIPPETS.items() for text in snippets]
BY_NAME = {"thumb": THUMB, "riscv": RISCV, "aarch64": AARCH64}


@pytest.mark.parametrize(("architecture", "text"), CASES, ids=[f"{a}-{t}" for a, t in CASES])
def test_an_instruction_has_its_class(architecture: str, text: str) -> None:
    code, kind = SNIPPETS[architecture][text]
    wanted: tuple[Any, ...] = (kind,) if isinstance(kind, str) else kind
    (found,) = decode(BY_NAME[architecture], bytes.fromhex(code), 0x1000)
    assert found.mnemonic.removeprefix("c.").split(".")[0] in text and found.size == len(code) // 2
    assert found.kind == Kind(*wanted)


def test_every_class_is_met() -> None:
    met = {w if isinstance(w, str) else w[0] for s in SNIPPETS.values() for _, w in s.values()}
    assert met | {"branch not taken"} == set(CLASSES)


def test_data_and_what_is_unknown_do_not_shift_the_rest() -> None:
    code = bytes.fromhex("4018 ffffffff 4018 00deffff 7047")
    found = list(decode(THUMB, code, 0x100, [(0x108, 0x10C)]))
    assert [(i.address, i.size, i.kind.name) for i in found] == [
        (0x100, 2, "alu"), (0x102, 4, "other"), (0x106, 2, "alu"), (0x10C, 2, "call"),
    ]  # fmt: skip


def trace(code: str, blocks: Sequence[tuple[int, int]]) -> tuple[Trace, Mix]:
    """Thumb code from address 0 that runs through those blocks (address, bytes)."""
    memory = bytes.fromhex(code)
    found = Trace(THUMB, lambda address, size: memory[address : address + size])
    for block in blocks:
        found.enter(*block)
    return found, found.take()


def test_branches_are_taken_or_not_by_what_runs_next() -> None:
    # 0: adds r0, r0, r1; 2: bne 0; 4: bx lr: three rounds
    found, mix = trace("4018 fdd1 7047", [(0, 4), (0, 4), (0, 4), (4, 2)])
    assert mix.counts == {"alu": 3, "branch taken": 2, "branch not taken": 1, "call": 1}
    assert mix.instructions == found.instructions == 7 and not mix.words
    assert found.take().counts == {}  # taken already


def test_the_last_branch_leads_out_and_is_taken() -> None:
    # 0: it ne; 2: bxne lr; 4: pop {r4, pc}
    assert trace("18bf 7047 10bd", [(0, 4)])[1].counts == {"call": 1, "other": 1}
    _, mix = trace("18bf 7047 10bd", [(0, 4), (4, 2)])
    assert mix.counts == {"branch not taken": 1, "call": 1, "other": 1} and mix.words == {"call": 2}


def test_code_that_is_cut_into_two_blocks_counts_the_same() -> None:
    whole = trace("4018 4018 fcd1 7047", [(0, 6), (0, 6), (6, 2)])[1]
    assert trace("4018 4018 fcd1 7047", [(0, 2), (2, 4), (0, 2), (2, 4), (6, 2)])[1] == whole


def test_cycles_are_those_of_the_tables() -> None:
    mix = Mix({"alu": 10, "load multiple": 2, "branch taken": 3, "branch not taken": 4}, {"load multiple": 5})
    # Cortex-M0+: 1 each, 1 + N, 2, 1; Cortex-M4: 1 each, 1 + N, 1 + P, 1
    assert find_timing(find_target("rp2040")).cycles(mix) == 10 + 2 + 5 + 6 + 4  # type: ignore[union-attr]
    assert find_timing(find_target("stm32f407")).cycles(mix) == 10 + 2 + 5 + 9 + 4  # type: ignore[union-attr]
    two = Timing("", "", ({"alu": 1 / 3, "load": 1 / 3}, {"load": 1.0}))
    assert two.cycles(Mix({"alu": 3, "load": 3})) == 3 and two.cycles(Mix({"alu": 30, "load": 3})) == 11


def test_every_core_that_has_a_table_names_its_source_and_all_classes_it_can_execute() -> None:
    without = set()
    for target in all_targets():
        timing = find_timing(target)
        if timing is None:
            without.add(target.name)
            continue
        assert "Manual" in timing.source or timing.source.startswith("assumed:")
        assert target.core is not None
        lacks = set() if target.core.architecture == "aarch64" else {"vector"}
        if not target.core.hard_float:
            lacks |= {c for c in CLASSES if c.startswith("float")}
        if target.core.name == "cortex-m0":
            lacks |= {"divide"}
        if target.core.architecture == "riscv":
            lacks |= {"load multiple", "store multiple"}
        assert {c for c in CLASSES if all(c not in p for p in timing.pipes)} == lacks, target.name
    assert without == {"host", "cuda", "cortex-m55", "rv32imc", "rv32imfc", "rv64gc"}


def test_energy_is_time_times_power() -> None:
    board = find_target("nrf52840")
    assert energy(64_000_000, board) == pytest.approx(3.0 * 3.3e-3)  # a second
    assert energy(1, replace(board, power=None)) is None and energy(1, find_target("cortex-m4")) is None
