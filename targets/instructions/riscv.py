"""What RISC-V instructions do, by their names in the disassembler's text."""

from __future__ import annotations

import re

from unfoldc.targets.instructions.classes import Kind

_NAMES = {
    "load": r"l[bhw]u?|ld|lwsp|ldsp",
    "store": r"s[bhwd]|swsp|sdsp",
    "multiply": r"mul(?:h|hsu|hu|w)?",
    "divide": r"(?:div|rem)u?w?",
    "branch taken": r"b(?:eq|ne|lt|ge|gt|le)[uz]?|j",
    "float load": r"fl[wd](?:sp)?",
    "float store": r"fs[wd](?:sp)?",
    "float add": r"f(?:add|sub)\.[sd]",
    "float multiply": r"fmul\.[sd]",
    "float multiply-add": r"fn?m(?:add|sub)\.[sd]",
    "float divide": r"fdiv\.[sd]",
    "float root": r"fsqrt\.[sd]",
    "float move": r"f(?:mv|sgnj[nx]?|min|max|eq|lt|le|class|cvt|abs|neg)\..*",
    "other": r"fence.*|ecall|ebreak|csr.*|fr?s?csr|frrm|fsrm|frflags|fsflags|lr\..*|sc\..*|amo.*|nop|unimp|mret|wfi",
}
_PATTERNS = {name: re.compile(names) for name, names in _NAMES.items()}
_RETURN_ADDRESS = ("ra", "x1")


def kind(mnemonic: str, operands: str) -> Kind:
    """The kind of an instruction."""
    plain = mnemonic.removeprefix("c.")
    if plain == "ret":
        return Kind("call")
    if plain in ("jal", "jalr", "jr", "call", "tail"):
        first = operands.split(",")[0].strip()
        # jal to; jal rd, to; jalr rs; jalr rd, rs, by; jr rs
        links = plain == "jal" and ("," not in operands or first in _RETURN_ADDRESS)
        links |= plain == "jalr" and (mnemonic == "c.jalr" or first in _RETURN_ADDRESS or "," not in operands)
        returns = plain == "jr" and first in _RETURN_ADDRESS
        return Kind("call" if links or returns else "branch taken")
    name = next((n for n, pattern in _PATTERNS.items() if pattern.fullmatch(plain)), "alu")
    return Kind(name, 0, name == "branch taken" and plain != "j")
