"""Cycles of the Cortex-A, from what is public of their pipelines; caches hold everything, branches are predicted."""

from __future__ import annotations

from unfoldc.targets.instructions import CLASSES
from unfoldc.targets.timing.table import Timing

CORTEX_A53 = Timing(
    "assumed throughputs (Arm publishes no table for the Cortex-A53)",
    "assumed: two instructions in a cycle at most, one of them a load, a store or a floating-point operation, as in "
    "LLVM's scheduling model of the Cortex-A53 (AArch64SchedA53.td), no waiting for results, data in the first cache; "
    "Arm publishes no table for the Cortex-A53",
    (
        {
            "alu": 0.5, "multiply": 1, "divide": 8, "load": 1, "store": 1, "load multiple": 1, "store multiple": 1,
            "branch taken": 1, "branch not taken": 0.5, "call": 1, "other": 1, "vector": 1,
            "float add": 1, "float multiply": 1, "float multiply-add": 1, "float divide": 14, "float root": 14,
            "float load": 1, "float store": 1, "float move": 1,
        },
    ),
    {"load multiple": 0.5, "store multiple": 0.5, "float load": 0.5, "float store": 0.5},
)  # fmt: skip

CORTEX_A72 = Timing(
    "the throughputs in Arm's guide for the Cortex-A72 (UAN 0016)",
    "assumed: three instructions in a cycle at most, two integer and two floating-point pipes, one load, one store and "
    "one branch, after the throughputs in Arm's Cortex-A72 Software Optimization Guide (UAN 0016), no waiting for "
    "results, data in the first cache; Arm publishes no cycles of whole programs",
    (
        dict.fromkeys(CLASSES, 1 / 3),
        {"alu": 0.5},
        {"load": 1, "load multiple": 1, "float load": 1},
        {"store": 1, "store multiple": 1, "float store": 1},
        {"branch taken": 1, "branch not taken": 1, "call": 1},
        {"multiply": 1, "divide": 12},
        {
            "float add": 0.5, "float multiply": 0.5, "float multiply-add": 0.5, "float move": 0.5, "vector": 0.5,
            "float divide": 4, "float root": 4,
        },
    ),
    {"load multiple": 1 / 3, "store multiple": 1 / 3},
)  # fmt: skip
