"""The architectures that programs are run for, by the names that `Core.architecture` has."""

from __future__ import annotations

from unfoldc.targets.processors.aarch64 import AARCH64
from unfoldc.targets.processors.base import Processor
from unfoldc.targets.processors.riscv import riscv
from unfoldc.targets.processors.thumb import THUMB

__all__ = ["PROCESSORS", "Processor"]

# By `Core.architecture` and `TargetSpec.word_bits`.
PROCESSORS = {("thumb", 32): THUMB, ("riscv", 32): riscv(32), ("riscv", 64): riscv(64), ("aarch64", 64): AARCH64}
