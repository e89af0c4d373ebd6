"""Where the programs of a project run on a desk: QEMU's machine for each core, or QEMU as a processor under Linux."""

from __future__ import annotations

from dataclasses import dataclass

from unfoldc.targets.description import Core, MemoryRegion
from unfoldc.targets.qemu import MACHINES
from unfoldc.targets.startup import linker_script

_CONSOLE = ("-display", "none", "-serial", "none", "-monitor", "none")
_SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")
_BOOT = """\
SECTIONS {
  .boot : { LONG(firmware_stack_top) LONG(unfoldc_firmware_reset | 1) } > BOOT
}
"""


@dataclass(frozen=True)
class Place:
    """How a program is run: `command`, then its file. `name` says where that is.

    `machine` is QEMU's name of a machine without a system ("": the program runs under Linux), `script` the linker
    script for it.
    """

    command: tuple[str, ...]
    name: str
    machine: str = ""
    script: str = ""

    @property
    def program(self) -> str:
        """The emulator."""
        return self.command[0]


def place_of(core: Core) -> Place:
    """Where programs for `core` run."""
    if core.linux:
        return Place(("qemu-aarch64-static",), "`qemu-aarch64-static`")
    machine = MACHINES[core.name]
    command = (machine.program, *machine.arguments, *_CONSOLE, *_SEMIHOSTING, "-kernel")
    script = _linker_script(machine.flash, machine.ram, machine.boot)
    return Place(command, f"QEMU's `{machine.name}`{machine.differs}", machine.name, script)


def _linker_script(flash: MemoryRegion, ram: MemoryRegion, boot: int | None) -> str:
    """The script; with `boot`, for a processor that looks there for its first instruction."""
    text = linker_script("unfoldc", flash, ram)
    if boot is None:
        return text
    return text.replace("MEMORY {\n", f"MEMORY {{\n  BOOT (rx) : ORIGIN = {boot:#x}, LENGTH = 8\n", 1) + _BOOT
