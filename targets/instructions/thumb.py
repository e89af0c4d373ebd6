"""What Thumb instructions do, by their names in the disassembler's text."""

from __future__ import annotations

import re

from unfoldc.targets.instructions.classes import Kind

_CONDITION = "(?:eq|ne|hs|lo|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
_NAMES = {
    "load": r"ldr(?:b|h|sb|sh)?t?|ldrex[bh]?",
    "store": r"str(?:b|h)?t?|strex[bh]?",
    "load multiple": r"ldm(?:ia|db)?|pop|vldm(?:ia|db)?|vpop|ldrd",
    "store multiple": r"stm(?:ia|db)?|push|vstm(?:ia|db)?|vpush|strd",
    "branch taken": r"b|cbn?z|tbb|tbh",
    "call": r"bl|blx|bx",
    "multiply": r"muls?|ml[as]|[su]m(?:u|la)ll?|umaal|smm(?:ul|la|ls)r?|sm(?:ul|la|lal)(?:[bt]{2}|w[bt])"
    r"|smu[as]dx?|sml[as]l?dx?",
    "divide": r"[su]div",
    "float add": r"vadd|vsub",
    "float multiply": r"vn?mul",
    "float multiply-add": r"vn?ml[as]|vfn?m[as]",
    "float divide": r"vdiv",
    "float root": r"vsqrt",
    "float load": r"vldr",
    "float store": r"vstr",
    "float move": r"vmov|vcmpe?|vcvt[abmnprtz]?|vmrs|vmsr|vabs|vneg|vsel|vmaxnm|vminnm|vrint[abmnprxz]",
    "other": r"dsb|isb|dmb|nop|it[te]{0,3}|svc|udf|bkpt|mrs|msr|cps(?:ie|id)|wf[ei]|sev|yield|clrex|hint|pld[w]?",
}
_PATTERNS = {name: re.compile(f"(?:{names}){_CONDITION}") for name, names in _NAMES.items()}
_ALWAYS = re.compile(r"b|bl|blx|bx|tbb|tbh|pop|ldm(?:ia|db)?|ldr|mov|add")


def kind(mnemonic: str, operands: str) -> Kind:
    """The kind of an instruction."""
    plain = mnemonic.split(".")[0]
    name = next((n for n, pattern in _PATTERNS.items() if pattern.fullmatch(plain)), "alu")
    if "multiple" in name:
        words = _registers(operands) if "{" in operands else 2
        return (
            Kind("call", words, plain != "pop" and not _ALWAYS.fullmatch(plain))
            if "pc}" in operands
            else Kind(name, words)
        )
    to_pc = operands.startswith("pc,") and name in ("load", "alu")
    if to_pc or name in ("branch taken", "call"):
        returns = name == "call" and (plain[:2] != "bx" or operands == "lr")
        return Kind("call" if returns else "branch taken", 0, not _ALWAYS.fullmatch(plain))
    return Kind(name)


def _registers(operands: str) -> int:
    """Words in a list of registers, {r4, r5} or {d8, d9}."""
    names = [n.strip() for n in operands[operands.index("{") + 1 : operands.index("}")].split(",")]
    return sum(2 if n.startswith("d") else 1 for n in names)
