"""Estimated cycles of the instructions that were counted: a table per processor, each with its source."""

from __future__ import annotations

from unfoldc.targets.description import Target
from unfoldc.targets.timing.cortex_a import CORTEX_A53, CORTEX_A72
from unfoldc.targets.timing.cortex_m import CORTEX_M0_PLUS, CORTEX_M4, CORTEX_M7, CORTEX_M33
from unfoldc.targets.timing.esp32_c3 import ESP32_C3
from unfoldc.targets.timing.table import Timing, energy

__all__ = ["Timing", "energy", "find_timing"]

# By `Core.timing`; a device whose core is no particular one (RISC-V) has a table by its own name.
_TABLES = {
    "cortex-m0": CORTEX_M0_PLUS, "cortex-m4": CORTEX_M4, "cortex-m7": CORTEX_M7, "cortex-m33": CORTEX_M33,
    "cortex-a53": CORTEX_A53, "cortex-a72": CORTEX_A72, "esp32-c3": ESP32_C3,
}  # fmt: skip


def find_timing(target: Target) -> Timing | None:
    """The table for a target; None where there is none."""
    if target.core is None:
        return None
    return _TABLES.get(target.name) or _TABLES.get(target.core.timing)
