"""What AArch64 instructions do, by their names in the disassembler's text."""

from __future__ import annotations

import re

from unfoldc.targets.instructions.classes import Kind

_NAMES = {
    "branch taken": r"b|b\..*|cbn?z|tbn?z|br",
    "call": r"bl|blr|ret",
    "multiply": r"mul|madd|msub|mneg|[su]mull|[su]m(?:add|sub)l|[su]mulh|[su]mnegl",
    "divide": r"[su]div",
    "float add": r"fadd|fsub|fabd",
    "float multiply": r"fn?mul",
    "float multiply-add": r"fn?m(?:add|sub)",
    "float divide": r"fdiv",
    "float root": r"fsqrt",
    "float move": r"fmov|fc?cmpe?|fcsel|fcvt.*|[su]cvtf|fabs|fneg|f(?:min|max)(?:nm)?|frint.",
    "other": r"nop|isb|dsb|dmb|msr|mrs|svc|hvc|brk|hint|prfu?m|wf[ei]|yield|bti|dc|ic|clrex|udf|eret",
}
_PATTERNS = {name: re.compile(names) for name, names in _NAMES.items()}
_MEMORY = re.compile(r"(ld|st)(?:r|ur|p|np|[1-4]r?|ax?r|lr|xr|xp|lxr|axp)(?:s?[bhw])?")
_FLOAT = re.compile(r"\{? ?[bhsdqv]\d+")
_WIDE = re.compile(r"q\d|\{ ?v\d+\.(?:16b|8h|4s|2d)")  # 128 bits, two words of 64
_VECTOR = re.compile(r"\bv\d+\.")


def kind(mnemonic: str, operands: str) -> Kind:
    """The kind of an instruction."""
    memory = _MEMORY.fullmatch(mnemonic)
    if memory:
        action = "load" if memory[1] == "ld" else "store"
        if mnemonic[2:] in ("p", "np", "psw"):
            return Kind(f"{action} multiple", 2)
        if _FLOAT.match(operands):
            return Kind(f"float {action}", 2 if _WIDE.match(operands) else 0)
        return Kind(action)
    name = next((n for n, pattern in _PATTERNS.items() if pattern.fullmatch(mnemonic)), "alu")
    if name in ("float divide", "float root"):
        return Kind(name)
    if _VECTOR.search(operands) or (name == "alu" and _FLOAT.match(operands)):
        return Kind("vector")
    return Kind(name, 0, name == "branch taken" and mnemonic not in ("b", "br"))
