"""What running a program takes to know of an architecture: its registers and how long its instructions are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unfoldc.targets.description import MemoryRegion


@dataclass(frozen=True)
class Processor:
    """An architecture, with the names that unicorn and the disassembler capstone have for it; ours is `name`.

    `architecture` and `modes` are unicorn's constants, `constants` its module with the registers; `pc`, `sp` and `link`
    are the program counter, the stack pointer and the register with the address to return to. `code_bit` is set in
    addresses of code (Thumb: 1). `devices` are control registers that the start-up code writes: plain memory here.
    `registers` are set before it runs.
    `length` gives the bytes of the instruction whose first half (16 bits) is this.
    """

    name: str
    architecture: str
    modes: tuple[str, ...]
    constants: str
    pc: str
    sp: str
    link: str
    length: Callable[[int], int]
    capstone: str
    capstone_modes: tuple[str, ...]
    code_bit: int = 0
    devices: tuple[MemoryRegion, ...] = ()
    registers: tuple[tuple[str, int], ...] = ()

    def instructions(self, code: bytes) -> int:
        """How many instructions `code` holds."""
        count = at = 0
        while at < len(code):
            at += self.length(code[at] | code[at + 1] << 8)
            count += 1
        return count
