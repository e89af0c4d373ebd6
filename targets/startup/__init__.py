"""Start-up code and the linker script, as text; they depend on nothing but the symbol, the core and its memories.

The files beside this one are C and linker script with `@S` for the solver's symbol. They define `@S_firmware_reset`,
where the processor starts, which makes the stack, the floating-point unit and memory ready and calls `main`, and
`@S_firmware_fault`, which loops. A board whose ROM wants a header before the program (RP2040, i.MX RT) or whose clock
has to be set brings start-up code of its own.
"""

from __future__ import annotations

from importlib.resources import files

from unfoldc.targets.description import Core, MemoryRegion


def startup_source(core: Core, symbol: str) -> str:
    """C text of the start-up code for `core`; it calls `int main(void)`."""
    return (_text("memory.c") + "\n" + _text(f"{core.architecture}.c")).replace("@S", symbol)


def linker_script(symbol: str, flash: MemoryRegion, ram: MemoryRegion) -> str:
    """The linker script for a solver called `symbol` in these memories."""
    text = _text("firmware.ld").replace("@S", symbol)
    for name, region in (("FLASH", flash), ("RAM", ram)):
        text = text.replace(f"@{name}_START", hex(region.start)).replace(f"@{name}_LENGTH", hex(region.length))
    return text


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
