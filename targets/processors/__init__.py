"""The architectures that programs are run for, by the names that `Core.architecture` has."""

from __future__ import annotations

from unfoldc.targets.description import Core
from unfoldc.targets.processors.aarch64 import AARCH64
from unfoldc.targets.processors.base import Processor
from unfoldc.targets.processors.riscv import riscv
from unfoldc.targets.processors.thumb import THUMB, THUMB_LARGEST

__all__ = ["PROCESSORS", "Processor", "emulated"]

# By `Core.architecture` and `TargetSpec.word_bits`.
PROCESSORS = {("thumb", 32): THUMB, ("riscv", 32): riscv(32), ("riscv", 64): riscv(64), ("aarch64", 64): AARCH64}


def emulated(core: Core, word_bits: int) -> Processor:
    """The processor that unicorn runs programs for `core` on."""
    return THUMB_LARGEST if core.unicorn_model == "UC_CPU_ARM_MAX" else PROCESSORS[core.architecture, word_bits]
