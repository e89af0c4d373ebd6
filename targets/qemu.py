"""The machines that QEMU emulates, as data: which core, where memory is, what counts instructions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unfoldc.errors import TargetError
from unfoldc.targets.boards import all_targets
from unfoldc.targets.description import MemoryRegion, Target

_MIB = 1024 * 1024


@dataclass(frozen=True)
class QemuMachine:
    """A machine of QEMU's, and how firmware is linked for it and started.

    `arguments` select it. `flash` is where the program starts, `ram` holds its data and, from the end, its stack.
    `counter` is the address of a counter that makes `ticks` steps while the processor executes `instructions`
    instructions, of 2^`shift` ns each (0: the processor counts them itself). `differs`: what a user should know.
    `boot`: where a Cortex-M looks for the table of its exceptions at first, if not at the start of `flash`.
    """

    program: str
    arguments: tuple[str, ...]
    flash: MemoryRegion
    ram: MemoryRegion
    shift: int = 0
    counter: int = 0
    ticks: int = 1
    instructions: int = 1
    differs: str = ""
    boot: int | None = None

    @property
    def name(self) -> str:
        """The machine's name in QEMU."""
        return self.arguments[1]


def _mps(name: str, flash: MemoryRegion, ram: MemoryRegion, counter: int, mhz: int) -> QemuMachine:
    """A board of Arm's with a free-running counter of so many MHz in its FPGA's registers (FPGAIO COUNTER)."""
    # At 256 ns for each instruction: 25 MHz are 32 counts for 5 instructions, 20 MHz 128 for 25.
    ticks, instructions = {25: (32, 5), 20: (128, 25)}[mhz]
    return QemuMachine("qemu-system-arm", ("-M", name), flash, ram, 8, counter, ticks, instructions)


# Sizes and addresses are those of QEMU 7.2's hw/arm/mps2.c and mps2-tz.c; Arm's application notes AN386, AN505, AN547.
_SSRAM = (MemoryRegion(0, 4 * _MIB), MemoryRegion(0x2000_0000, 4 * _MIB))
_EXTERNAL = (MemoryRegion(0x6000_0000, 128 * _MIB), MemoryRegion(0x6800_0000, 128 * _MIB))
# The M33 starts in secure state, in which bit 28 of an address is set.
_SECURE = (MemoryRegion(0x1000_0000, 4 * _MIB), MemoryRegion(0x3800_0000, 4 * _MIB))
_VIRT = (MemoryRegion(0x8000_0000, 256 * _MIB), MemoryRegion(0x9000_0000, 256 * _MIB))
_ALONE = ("-m", "512M", "-bios", "none")


def _virt(bits: int, *without: str) -> QemuMachine:
    """A RISC-V machine whose processor lacks what is named."""
    cpu = ",".join([f"rv{bits}", *(f"{name}=false" for name in without)])
    return QemuMachine(f"qemu-system-riscv{bits}", ("-M", "virt", "-cpu", cpu, *_ALONE), *_VIRT)


MACHINES = {
    "cortex-m0": replace(
        _mps("mps2-an385", *_SSRAM, 0x4002_8018, 25), differs=", a Cortex-M3, which knows all instructions of an M0"
    ),
    "cortex-m4": _mps("mps2-an386", *_SSRAM, 0x4002_8018, 25),
    "cortex-m7": _mps("mps2-an500", *_SSRAM, 0x4002_8018, 25),
    "cortex-m33": _mps("mps2-an505", *_SECURE, 0x5030_2018, 20),
    "cortex-m55": replace(_mps("mps3-an547", *_EXTERNAL, 0x5930_2018, 20), boot=0),
    "rv32imc": _virt(32, "f", "d"),
    "rv32imfc": _virt(32, "d"),
    "rv64gc": _virt(64),
}
"""Name of a core -> the machine that runs its firmware."""


def find_machine(target: Target) -> QemuMachine:
    """The machine for firmware of `target`; `TargetError` where QEMU has none."""
    machine = MACHINES.get(target.core.name) if target.core is not None else None
    if machine is None:
        raise TargetError(
            where=f"{target.name} on QEMU",
            found="QEMU has no machine without an operating system with this processor",
            allowed=", ".join(t.name for t in all_targets() if t.core is not None and t.core.name in MACHINES),
            do="Choose one of these targets, or leave on= out.",
        )
    return machine
