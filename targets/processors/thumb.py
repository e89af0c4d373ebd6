"""Thumb code on a Cortex-M."""

from __future__ import annotations

from dataclasses import replace

from unfoldc.targets.description import MemoryRegion
from unfoldc.targets.processors.base import Processor


def length(half: int) -> int:
    """Bytes of an instruction: a first half that starts with 0b11101, 0b11110 or 0b11111 has a second one."""
    return 4 if half >> 11 in (0b11101, 0b11110, 0b11111) else 2


THUMB = Processor(
    name="thumb",
    architecture="UC_ARCH_ARM",
    modes=("UC_MODE_THUMB", "UC_MODE_MCLASS"),
    constants="unicorn.arm_const",
    pc="UC_ARM_REG_PC",
    sp="UC_ARM_REG_SP",
    link="UC_ARM_REG_LR",
    length=length,
    capstone="CS_ARCH_ARM",
    capstone_modes=("CS_MODE_THUMB", "CS_MODE_MCLASS", "CS_MODE_V8"),
    code_bit=1,
    devices=(MemoryRegion(0xE000_E000, 4096),),  # system control, with the switch of the floating-point unit
)

# unicorn's largest Arm has the double precision that its Cortex-M7 lacks. It is no Cortex-M: its floating-point unit is
# switched on by other registers (CPACR, FPEXC), and exceptions are entered in another way, but here they end the run.
THUMB_LARGEST = replace(
    THUMB,
    modes=("UC_MODE_THUMB",),
    registers=(("UC_ARM_REG_C1_C0_2", 0xF << 20), ("UC_ARM_REG_FPEXC", 1 << 30)),
)
