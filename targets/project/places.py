"""Where the programs of a project run on a desk: QEMU's machine for each core, its memories, how it is called."""

from __future__ import annotations

from dataclasses import dataclass

from unfoldc.targets.description import Core, MemoryRegion

_MIB = 1 << 20


@dataclass(frozen=True)
class Place:
    """A machine of QEMU with memories for code and data; no `machine`: a program of Linux, which QEMU runs by itself.

    `core_text` says which processor the machine has.
    """

    program: str
    machine: str = ""
    core_text: str = ""
    flash: MemoryRegion | None = None
    ram: MemoryRegion | None = None

    def command(self) -> tuple[str, ...]:
        """The program and its arguments; the file to run comes last."""
        if not self.machine:
            return (self.program,)
        console = ("-display", "none", "-serial", "none", "-monitor", "none")
        bios = ("-bios", "none") if self.machine == "virt" else ()
        semihosting = ("-semihosting-config", "enable=on,target=native")
        return (self.program, "-M", self.machine, *bios, *console, *semihosting, "-kernel")


def _cortex_m(machine: str, core_text: str, flash: MemoryRegion, ram: MemoryRegion) -> Place:
    return Place("qemu-system-arm", f"{machine}", core_text, flash, ram)


_CODE = MemoryRegion(0, 4 * _MIB)
_DATA = MemoryRegion(0x2000_0000, 4 * _MIB)
# From `info mtree` of QEMU 7.2. The M33 and M55 start in secure state, which sees memories at addresses of their own.
_MACHINES = {
    "cortex-m0": _cortex_m("mps2-an385", "a Cortex-M3, which runs the code of a Cortex-M0", _CODE, _DATA),
    "cortex-m4": _cortex_m("mps2-an386", "a Cortex-M4", _CODE, _DATA),
    "cortex-m7": _cortex_m("mps2-an500", "a Cortex-M7", _CODE, _DATA),
    "cortex-m33": _cortex_m(
        "mps2-an505", "a Cortex-M33", MemoryRegion(0x1000_0000, 4 * _MIB), MemoryRegion(0x3800_0000, 4 * _MIB)
    ),
    "cortex-m55": _cortex_m(
        "mps3-an547", "a Cortex-M55", MemoryRegion(0, _MIB // 2), MemoryRegion(0x3100_0000, 4 * _MIB)
    ),
}


def place_of(core: Core, bits: int) -> Place:
    """Where programs for `core`, with registers of so many bits, run."""
    if core.architecture == "aarch64":
        return Place("qemu-aarch64-static")
    if core.architecture == "riscv":
        flash, ram = MemoryRegion(0x8000_0000, 64 * _MIB), MemoryRegion(0x8400_0000, 64 * _MIB)
        return Place(f"qemu-system-riscv{bits}", "virt", f"a {bits}-bit RISC-V processor", flash, ram)
    return _MACHINES[core.name]
