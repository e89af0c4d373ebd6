"""What a crashed program says of itself (`device/port_qemu.c`), and QEMU where the processor gave up, in words."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

_REPORT = re.compile(r"fault at ([0-9a-f]+) from ([0-9a-f]+) status ([0-9a-f]+) address ([0-9a-f]+) on (\w+)")
_WITH_ADDRESS = 1 << 15  # CFSR.BFARVALID
# Bits of a Cortex-M's Configurable Fault Status Register.
_THUMB = {
    16: "meets an undefined instruction",
    17: "jumps to what is no Thumb code",
    18: "returns from no exception",
    19: "uses a coprocessor that is not there",
    24: "reads or writes at an odd address",
    25: "divides by zero",
    0: "jumps to memory that is not there",
    8: "jumps to memory that is not there",
    1: "reads or writes memory that is not there",
    9: "reads or writes memory that is not there",
    10: "writes memory that is not there",
    12: "has no memory left for its stack",
}
# RISC-V's mcause, and whether mtval is an address.
_RISCV = {
    0: ("jumps to an odd address", True),
    1: ("jumps to memory that is not there", True),
    2: ("meets an undefined instruction", False),
    4: ("reads at an odd address", True),
    5: ("reads memory that is not there", True),
    6: ("writes at an odd address", True),
    7: ("writes memory that is not there", True),
}


@dataclass(frozen=True)
class Fault:
    """What happened at the code address `at`, last called from `caller`; `address` of memory, where it is known."""

    what: str
    at: int
    caller: int
    address: int | None

    def text(self, place: Callable[[int], str]) -> str:
        """The fault as a phrase; `place` names an address of code."""
        where = place(self.at)
        if where.endswith("no code"):
            where += f", last called from {place((self.caller & ~1) - 2)}"
        address = "" if self.address is None else f", address {self.address:#010x},"
        return f"{self.what}{address} in {where}"


def fault_of(words: str) -> Fault | None:
    """The fault that a program reported on its machine's standard error; None where there is no report."""
    report = _REPORT.search(words)
    if report is None:
        return None
    at, caller, status, address = (int(group, 16) for group in report.groups()[:4])
    if report[5] == "thumb":
        what = next((text for bit, text in _THUMB.items() if status >> bit & 1), "raises an exception")
        return Fault(what, at, caller, address if status & _WITH_ADDRESS else None)
    what, addressed = _RISCV.get(status, ("raises an exception", False))
    return Fault(what, at, caller, address if addressed else None)


def ending_of(status: int, words: str) -> str:
    """How QEMU ended where the program reported nothing: what it said, but for warnings and the registers."""
    said = [line.strip() for line in words.split("R00=")[0].splitlines() if line.strip() and "warning:" not in line]
    last = f": {said[-1]}" if said else ""
    return f"QEMU was ended by {signal.Signals(-status).name}{last}" if status < 0 else f"QEMU ended ({status}){last}"
