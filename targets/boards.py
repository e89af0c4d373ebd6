"""All targets by name. A board is an entry of `_BOARDS`: name, what it is, its core, flash, RAM, clock, the source."""

from __future__ import annotations

import difflib
from dataclasses import replace
from functools import cache

from unfoldc.errors import TargetError
from unfoldc.targets.cuda.target import CUDA
from unfoldc.targets.description import MemoryRegion, Power, Target
from unfoldc.targets.generic import (
    CORTEX_A53,
    CORTEX_A72,
    CORTEX_M0,
    CORTEX_M4,
    CORTEX_M7,
    CORTEX_M33,
    GENERIC,
    RV32IMC,
)
from unfoldc.targets.host_cpu import host_target

_KIB = 1024
_MIB = 1024 * _KIB
_SRAM = 0x2000_0000
_STM32_FLASH = 0x0800_0000


def _board(
    name: str,
    summary: str,
    core: Target,
    flash: MemoryRegion,
    ram: MemoryRegion,
    clock_hz: int,
    source: str,
    power: Power | None = None,
) -> Target:
    spec = replace(core.spec, name=name, flash_bytes=flash.length, ram_bytes=ram.length)
    return replace(
        core, spec=spec, summary=summary, source=source, flash=flash, ram=ram, clock_hz=clock_hz, power=power
    )


_CCM = "RAM counts the contiguous SRAM only; 64 KiB of core-coupled memory at 0x10000000 stay free for the application"
_PI = "Raspberry Pi documentation, Typical power requirements: bare-board active current"

_BOARDS = (
    _board(
        "rp2040",
        "RP2040 (Raspberry Pi Pico), one Cortex-M0+, 133 MHz",
        CORTEX_M0,
        MemoryRegion(0x1000_0000, 2 * _MIB),
        MemoryRegion(_SRAM, 264 * _KIB),
        133_000_000,
        "RP2040 Datasheet: 264 KiB SRAM; Pico Datasheet: 2 MiB flash",
    ),
    _board(
        "stm32f407",
        "STM32F407VG (Discovery board), Cortex-M4, 168 MHz",
        CORTEX_M4,
        MemoryRegion(_STM32_FLASH, 1 * _MIB),
        MemoryRegion(_SRAM, 128 * _KIB),
        168_000_000,
        f"ST datasheet STM32F405xx STM32F407xx (DS8626): 1 MiB flash, 192 KiB RAM. {_CCM}",
        Power(3.3, 0.040, "ST DS8626: typical in run mode from flash at 168 MHz, all peripherals disabled"),
    ),
    _board(
        "stm32f411",
        "STM32F411CE ('black pill' board), Cortex-M4, 100 MHz",
        CORTEX_M4,
        MemoryRegion(_STM32_FLASH, 512 * _KIB),
        MemoryRegion(_SRAM, 128 * _KIB),
        100_000_000,
        "ST datasheet STM32F411xC STM32F411xE (DS10314): 512 KiB flash, 128 KiB RAM",
    ),
    _board(
        "stm32f429",
        "STM32F429ZI (Nucleo-144 and Discovery boards), Cortex-M4, 180 MHz",
        CORTEX_M4,
        MemoryRegion(_STM32_FLASH, 2 * _MIB),
        MemoryRegion(_SRAM, 192 * _KIB),
        180_000_000,
        f"ST datasheet STM32F427xx STM32F429xx (DS9405): 2 MiB flash, 256 KiB RAM. {_CCM}",
    ),
    _board(
        "nrf52840",
        "nRF52840 (development kit), Cortex-M4, 64 MHz",
        CORTEX_M4,
        MemoryRegion(0, 1 * _MIB),
        MemoryRegion(_SRAM, 256 * _KIB),
        64_000_000,
        "Nordic nRF52840 Product Specification: 1 MiB flash, 256 KiB RAM, without a radio stack",
        Power(3.0, 0.0033, "Nordic nRF52840 Product Specification: CoreMark from flash at 64 MHz with DC/DC regulator"),
    ),
    _board(
        "stm32h743",
        "STM32H743ZI (Nucleo-144 board), Cortex-M7, 480 MHz",
        CORTEX_M7,
        MemoryRegion(_STM32_FLASH, 2 * _MIB),
        MemoryRegion(0x2400_0000, 512 * _KIB),
        480_000_000,
        "ST datasheet STM32H742xI/G STM32H743xI/G (DS12110): 2 MiB flash, 512 KiB AXI SRAM; other RAM stays free",
    ),
    _board(
        "teensy41",
        "Teensy 4.1 (i.MX RT1062), Cortex-M7, 600 MHz",
        CORTEX_M7,
        MemoryRegion(0x6000_0000, 8 * _MIB - 256 * _KIB),
        MemoryRegion(_SRAM, 512 * _KIB),
        600_000_000,
        "PJRC, Teensy 4.1: 7936 KiB flash, 512 KiB tightly coupled RAM, which code and data share",
    ),
    _board(
        "rp2350",
        "RP2350 (Raspberry Pi Pico 2), one Cortex-M33, 150 MHz",
        CORTEX_M33,
        MemoryRegion(0x1000_0000, 4 * _MIB),
        MemoryRegion(_SRAM, 520 * _KIB),
        150_000_000,
        "RP2350 Datasheet: 520 KiB SRAM; Pico 2 Datasheet: 4 MiB flash",
    ),
    _board(
        "nrf5340",
        "nRF5340 (development kit), application core, Cortex-M33, 128 MHz",
        CORTEX_M33,
        MemoryRegion(0, 1 * _MIB),
        MemoryRegion(_SRAM, 512 * _KIB),
        128_000_000,
        "Nordic nRF5340 Product Specification: 1 MiB flash, 512 KiB RAM of the application core",
    ),
    _board(
        "raspberry-pi-3",
        "Raspberry Pi 3B, Cortex-A53, 1.2 GHz, 64-bit Linux",
        CORTEX_A53,
        MemoryRegion(0x4000_0000, 256 * _MIB),
        MemoryRegion(0x5000_0000, 256 * _MIB),
        1_200_000_000,
        "Raspberry Pi documentation, processors: BCM2837; 1 GiB RAM, of which a half is counted",
        Power(5.0, 0.4, f"{_PI}, 3B"),
    ),
    _board(
        "raspberry-pi-4",
        "Raspberry Pi 4B, Cortex-A72, 1.5 GHz, 64-bit Linux",
        CORTEX_A72,
        MemoryRegion(0x4000_0000, 256 * _MIB),
        MemoryRegion(0x5000_0000, 256 * _MIB),
        1_500_000_000,
        "Raspberry Pi documentation, processors: BCM2711; 1 GiB RAM in the smallest model, of which a half is counted",
        Power(5.0, 0.6, f"{_PI}, 4B"),
    ),
    _board(
        "esp32-c3",
        "ESP32-C3 (DevKitM-1), RV32IMC, 160 MHz",
        RV32IMC,
        MemoryRegion(0x4200_0000, 4 * _MIB),
        MemoryRegion(0x3FC8_0000, 384 * _KIB),
        160_000_000,
        "Espressif ESP32-C3 Technical Reference Manual: 400 KiB SRAM, 384 KiB of it on the data bus; 4 MiB flash",
    ),
)


@cache
def all_targets() -> tuple[Target, ...]:
    """Every target, the host first, then its GPU, generic processors before boards."""
    return (host_target(), CUDA, *GENERIC, *_BOARDS)


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
