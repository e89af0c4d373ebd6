"""All targets by name. A board is an entry of `_BOARDS`: name, what it is, flash, RAM, clock, source of the figures."""

from __future__ import annotations

import difflib
from dataclasses import replace
from functools import cache

from unfoldc.errors import TargetError
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets.description import MemoryRegion, Target
from unfoldc.targets.host_cpu import host_target

_KIB = 1024
_MIB = 1024 * _KIB
_SRAM = 0x2000_0000
_STM32_FLASH = 0x0800_0000

CORTEX_M4 = Target(
    spec=TargetSpec(name="cortex-m4", word_bits=32, vector_bits=0, accumulators=4, float_types=("float32",)),
    kind="emulated",
    summary="any Arm Cortex-M4 with its single-precision floating-point unit; no memory limit",
    source="Arm Cortex-M4 Technical Reference Manual: code from 0, SRAM from 0x20000000; lengths are roomy on purpose",
    packages=("ziglang", "unicorn", "pyelftools"),
    flags=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"),
    flash=MemoryRegion(0, 256 * _MIB),
    ram=MemoryRegion(_SRAM, 256 * _MIB),
)


def _board(name: str, summary: str, flash: MemoryRegion, ram: MemoryRegion, clock_hz: int, source: str) -> Target:
    spec = replace(CORTEX_M4.spec, name=name, flash_bytes=flash.length, ram_bytes=ram.length)
    return replace(CORTEX_M4, spec=spec, summary=summary, source=source, flash=flash, ram=ram, clock_hz=clock_hz)


_CCM = "RAM counts the contiguous SRAM only; 64 KiB of core-coupled memory at 0x10000000 stay free for the application"

_BOARDS = (
    _board(
        "stm32f407",
        "STM32F407VG (Discovery board), Cortex-M4, 168 MHz",
        MemoryRegion(_STM32_FLASH, 1 * _MIB),
        MemoryRegion(_SRAM, 128 * _KIB),
        168_000_000,
        f"ST datasheet STM32F405xx STM32F407xx (DS8626): 1 MiB flash, 192 KiB RAM. {_CCM}",
    ),
    _board(
        "stm32f411",
        "STM32F411CE ('black pill' board), Cortex-M4, 100 MHz",
        MemoryRegion(_STM32_FLASH, 512 * _KIB),
        MemoryRegion(_SRAM, 128 * _KIB),
        100_000_000,
        "ST datasheet STM32F411xC STM32F411xE (DS10314): 512 KiB flash, 128 KiB RAM",
    ),
    _board(
        "stm32f429",
        "STM32F429ZI (Nucleo-144 and Discovery boards), Cortex-M4, 180 MHz",
        MemoryRegion(_STM32_FLASH, 2 * _MIB),
        MemoryRegion(_SRAM, 192 * _KIB),
        180_000_000,
        f"ST datasheet STM32F427xx STM32F429xx (DS9405): 2 MiB flash, 256 KiB RAM. {_CCM}",
    ),
    _board(
        "nrf52840",
        "nRF52840 (development kit), Cortex-M4, 64 MHz",
        MemoryRegion(0, 1 * _MIB),
        MemoryRegion(_SRAM, 256 * _KIB),
        64_000_000,
        "Nordic nRF52840 Product Specification: 1 MiB flash, 256 KiB RAM, without a radio stack",
    ),
)


@cache
def all_targets() -> tuple[Target, ...]:
    """Every target, the host first, generic processors before boards."""
    return (host_target(), CORTEX_M4, *_BOARDS)


def find_target(name: str) -> Target:
    """The target called `name`; `TargetError` lists the names there are."""
    targets = {t.name: t for t in all_targets()}
    if name in targets:
        return targets[name]
    near = difflib.get_close_matches(name.lower(), targets, n=1)
    raise TargetError(
        where=f"target '{name}'",
        found="there is no target of this name",
        allowed=", ".join(targets),
        do=f"Did you mean '{near[0]}'?" if near else "Choose one of these names.",
    )
