"""Cycles of the Cortex-M. Arm publishes tables for the M0+ and the M4; for the M7 and the M33 it does not."""

from __future__ import annotations

from unfoldc.targets.timing.table import Timing

_WORD = {"load multiple": 1.0, "store multiple": 1.0, "call": 1.0}

CORTEX_M0_PLUS = Timing(
    "Arm's table for the Cortex-M0+ (DDI 0484)",
    "Arm Cortex-M0+ Technical Reference Manual (DDI 0484), table 3-1, with the multiplier of one cycle; BL takes 3 "
    "cycles and BX 2, which count 2.5",
    (
        {
            "alu": 1, "multiply": 1, "load": 2, "store": 2, "load multiple": 1, "store multiple": 1,
            "branch taken": 2, "branch not taken": 1, "call": 2.5, "other": 1,
        },
    ),
    _WORD,
)  # fmt: skip

_M4 = {
    "alu": 1, "multiply": 1, "divide": 7, "load": 2, "store": 1, "load multiple": 1, "store multiple": 1,
    "branch taken": 3, "branch not taken": 1, "call": 3, "other": 1,
    "float add": 1, "float multiply": 1, "float multiply-add": 3, "float divide": 14, "float root": 14,
    "float load": 2, "float store": 2, "float move": 1,
}  # fmt: skip

CORTEX_M4 = Timing(
    "Arm's tables for the Cortex-M4 (DDI 0439)",
    "Arm Cortex-M4 Technical Reference Manual (100166, DDI 0439), tables of processor and floating-point instructions; "
    "a refill of the pipeline (1 to 3 cycles) counts 2, a division (2 to 12) 7, a store 1 because the write buffer "
    "takes it; what neighbouring loads save and what waiting for a result costs is left out",
    (_M4,),
    _WORD,
)

CORTEX_M33 = Timing(
    "Arm's tables for the Cortex-M4 (there is none for the Cortex-M33)",
    "assumed: as the Cortex-M4, whose pipeline has three stages as well; Arm publishes no table for the Cortex-M33",
    (_M4,),
    _WORD,
)

CORTEX_M7 = Timing(
    "assumed throughputs (Arm publishes no table for the Cortex-M7)",
    "assumed: two integer instructions or one other in a cycle, one floating-point operation or access to memory in a "
    "cycle, branches predicted, everything in caches or tightly coupled memory; Arm publishes no table for the "
    "Cortex-M7; after measurements on an STM32H730 that are public (quinapalus.com/cm7cycles.html)",
    (
        {
            "alu": 0.5, "multiply": 1, "divide": 8, "load": 1, "store": 1, "load multiple": 1, "store multiple": 1,
            "branch taken": 1.5, "branch not taken": 0.5, "call": 2, "other": 1,
            "float add": 1, "float multiply": 1, "float multiply-add": 1, "float divide": 16, "float root": 14,
            "float load": 1, "float store": 1, "float move": 1,
        },
    ),
    {"load multiple": 0.5, "store multiple": 0.5, "call": 0.5},
)  # fmt: skip
