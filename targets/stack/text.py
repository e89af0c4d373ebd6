"""What RISC-V and AArch64 instructions do to the stack, from the disassembler's text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from unfoldc.targets.instructions import Instruction, decode
from unfoldc.targets.processors import Processor
from unfoldc.targets.stack.bound import Code, Step

_NUMBER = r"(-?(?:0x[0-9a-f]+|\d+))"
_RISCV_LESS = re.compile(rf"sp, (?:sp, )?{_NUMBER}")
_RISCV_JUMPS = re.compile(r"(?:c\.)?(?:jal|j|b\w+)")
_AARCH64_LESS = re.compile(rf"sp, sp, #{_NUMBER}(, lsl #12)?")
_AARCH64_STORED = re.compile(rf".*\[sp, #-{_NUMBER}\]!")
_AARCH64_ALIGNED = re.compile(rf"sp, x\d+, #{_NUMBER}")
_AARCH64_JUMPS = re.compile(rf".*#{_NUMBER}")


def code_of(
    processor: Processor, image: bytes, start: int, data: Sequence[tuple[int, int]], frame_bytes: int | None
) -> Code:
    """A function whose machine code is `image`, at `start`; `data` are the ranges of addresses that hold none."""
    read = {"riscv": riscv_steps, "aarch64": aarch64_steps}[processor.name]
    steps, alignment = read(decode(processor, image, start, data))
    return Code(start, start + len(image), steps, frame_bytes, alignment)


def riscv_steps(instructions: Iterable[Instruction]) -> tuple[tuple[Step, ...], int]:
    """The steps, and the bytes that aligning the frame may lose."""
    steps, alignment, high = [], 0, {}
    for i in instructions:
        name, first = i.mnemonic.removeprefix("c."), i.operands.split(",")[0]
        numbers = [int(n, 0) for n in re.findall(rf"(?:^|[ ,]){_NUMBER}(?![\w(])", i.operands)]
        if name == "auipc":  # with the jump that follows it reaches what is far
            high = {first: i.address + (numbers[-1] << 12)}
            steps.append(Step())
            continue
        if name in ("jalr", "jr"):
            by = i.operands.split(", ")
            base, offset = (by[1], int(by[2], 0)) if len(by) == 3 else (by[0], 0)
            if base in high:
                steps.append(Step(to=high[base] + offset, call=i.kind.name == "call"))
            else:
                steps.append(Step(anywhere=not (name == "jr" and base == "ra")))
        elif _RISCV_JUMPS.fullmatch(i.mnemonic) and numbers:
            steps.append(Step(to=i.address + numbers[-1], call=name == "jal"))
        elif first == "sp" and name == "andi":
            alignment += -numbers[-1]
            steps.append(Step())
        elif first == "sp" and i.kind.name == "alu":
            less = _RISCV_LESS.fullmatch(i.operands) if name in ("addi", "addi16sp") else None
            restored = name == "addi" and "s0" in i.operands
            steps.append(Step(max(0, -int(less[1], 0)) if less else 0 if restored else None))
        else:
            steps.append(Step())
        high = {}
    return tuple(steps), alignment


def aarch64_steps(instructions: Iterable[Instruction]) -> tuple[tuple[Step, ...], int]:
    """The steps, and the bytes that aligning the frame may lose."""
    steps, alignment = [], 0
    for i in instructions:
        aligned = _AARCH64_ALIGNED.fullmatch(i.operands) if i.mnemonic == "and" else None
        if aligned:
            alignment += (1 << 64) - int(aligned[1], 0)
        steps.append(Step() if aligned else _aarch64_step(i))
    return tuple(steps), alignment


def _aarch64_step(i: Instruction) -> Step:
    if i.mnemonic in ("br", "blr"):
        return Step(anywhere=True)
    if i.mnemonic == "bl" or (i.kind.name == "branch taken" and i.mnemonic != "br"):
        jump = _AARCH64_JUMPS.fullmatch(i.operands)
        return Step(to=int(jump[1], 0) if jump else None, call=i.mnemonic == "bl", anywhere=jump is None)
    stored = _AARCH64_STORED.fullmatch(i.operands)
    if stored:
        return Step(int(stored[1], 0))
    if not i.operands.startswith("sp, ") or i.kind.name != "alu":
        return Step()
    less = _AARCH64_LESS.fullmatch(i.operands)
    if less and i.mnemonic == "sub":
        return Step(int(less[1], 0) << (12 if less[2] else 0))
    restored = (less and i.mnemonic == "add") or i.operands == "sp, x29" or i.operands.startswith("sp, x29, #")
    return Step(0 if restored else None)
