"""Machine instructions as text and by what they do, for counting and for timing."""

from __future__ import annotations

from unfoldc.targets.instructions.classes import CLASSES, Mix
from unfoldc.targets.instructions.decode import Instruction, decode

__all__ = ["CLASSES", "Instruction", "Mix", "decode"]
