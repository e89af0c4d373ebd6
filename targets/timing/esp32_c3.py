"""Cycles of the ESP32-C3."""

from __future__ import annotations

from unfoldc.targets.timing.table import Timing

ESP32_C3 = Timing(
    "assumed cycles (Espressif publishes no table for the ESP32-C3)",
    "assumed: one instruction in a cycle, two for a load, a jump and a call, three for a branch that is taken, ten for "
    "a division, code in the cache; Espressif publishes no table for the ESP32-C3, only that its pipeline has four "
    "stages and is in order",
    (
        {
            "alu": 1, "multiply": 1, "divide": 10, "load": 2, "store": 1,
            "branch taken": 3, "branch not taken": 1, "call": 2, "other": 1,
        },
    ),
)  # fmt: skip
