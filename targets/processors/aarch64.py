"""AArch64 code on a Cortex-A."""

from __future__ import annotations

from unfoldc.targets.processors.base import Processor


def length(half: int) -> int:
    """Bytes of an instruction: always four."""
    return 4


AARCH64 = Processor(
    name="aarch64",
    architecture="UC_ARCH_ARM64",
    modes=("UC_MODE_ARM",),
    constants="unicorn.arm64_const",
    pc="UC_ARM64_REG_PC",
    sp="UC_ARM64_REG_SP",
    link="UC_ARM64_REG_LR",
    length=length,
    capstone="CS_ARCH_ARM64",
    capstone_modes=("CS_MODE_ARM",),
)
