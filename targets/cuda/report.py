"""What the assembler says of each kernel: registers, spills, stack and memory that it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_FUNCTION = re.compile(r"Function properties for (\w+)")
_REGISTERS = re.compile(r"Used (\d+) registers")
_BYTES = {"shared_bytes": re.compile(r"(\d+) bytes smem"), "constant_bytes": re.compile(r"(\d+) bytes cmem\[0\]")}


@dataclass(frozen=True)
class KernelReport:
    """One kernel on one architecture. `spill_*`: bytes of registers that did not fit, written and read back in memory.

    `stack_bytes` for each thread, spills included; `shared_bytes` are those whose size is fixed in the code.
    """

    registers: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    stack_bytes: int = 0
    shared_bytes: int = 0
    constant_bytes: int = 0

    def to_dict(self) -> dict[str, int]:
        """Plain numbers by name."""
        return asdict(self)


def parse_report(text: str) -> dict[str, KernelReport]:
    """The report of every kernel in what ptxas, or nvJitLink with ptxas' option -v, has written."""
    found: dict[str, dict[str, int]] = {}
    entry = function = ""
    for line in text.splitlines():
        if match := _ENTRY.search(line):
            entry = function = match[1]
            found[entry] = {}
        elif match := _FUNCTION.search(line):
            function = match[1]
        elif entry and (match := _FRAME.search(line)):
            sizes = map(int, match.groups())
            for name, size in zip(("stack_bytes", "spill_stores", "spill_loads"), sizes, strict=True):
                found[entry][name] = found[entry].get(name, 0) + size  # functions that are called count, too
        elif function == entry and (match := _REGISTERS.search(line)):
            found[entry]["registers"] = int(match[1])
            found[entry] |= {name: int(m[1]) for name, pattern in _BYTES.items() if (m := pattern.search(line))}
    return {name: KernelReport(**values) for name, values in found.items()}


def kernel_report(found: Mapping[str, Any]) -> KernelReport:
    """The report back from `to_dict`; what is missing or no number counts as 0."""
    names = [f.name for f in fields(KernelReport)]
    return KernelReport(**{name: int(found[name]) for name in names if isinstance(found.get(name), int)})
