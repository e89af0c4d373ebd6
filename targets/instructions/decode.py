"""Machine code -> instructions as text, each with its class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from unfoldc.targets.description import require_packages
from unfoldc.targets.instructions import aarch64, riscv, thumb
from unfoldc.targets.instructions.classes import Kind
from unfoldc.targets.processors import Processor

_CLASSIFIERS = {"thumb": thumb.kind, "riscv": riscv.kind, "aarch64": aarch64.kind}
UNKNOWN = "?"


@dataclass(frozen=True)
class Instruction:
    """One instruction of `size` bytes; its mnemonic is `UNKNOWN` where the disassembler does not know it."""

    address: int
    size: int
    mnemonic: str
    operands: str
    kind: Kind


def decode(
    processor: Processor, code: bytes, start: int, data: Sequence[tuple[int, int]] = ()
) -> Iterator[Instruction]:
    """The instructions of `code`, which lies at address `start`; `data` are ranges of addresses that hold none."""
    kind_of, disassembler = _CLASSIFIERS[processor.name], _disassembler(processor)
    at, end = start, start + len(code)
    while at + 2 <= end:
        after = next((last for first, last in data if first <= at < last), 0)
        if after:
            at = after
            continue
        stop = min((first for first, _ in data if first > at), default=end)
        for _, size, mnemonic, operands in disassembler.disasm_lite(code[at - start : stop - start], at):
            yield Instruction(at, size, mnemonic, operands, kind_of(mnemonic, operands))
            at += size
        if at + 2 <= stop:
            size = processor.length(code[at - start] | code[at - start + 1] << 8)
            yield Instruction(at, size, UNKNOWN, "", Kind("other"))
            at += size


@cache
def _disassembler(processor: Processor) -> Any:
    require_packages(["capstone"], "decoding instructions")
    import capstone

    modes = sum(getattr(capstone, name) for name in processor.capstone_modes)
    return capstone.Cs(getattr(capstone, processor.capstone), modes)
