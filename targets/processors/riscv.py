"""RISC-V of 32 and 64 bits, with compressed instructions."""

from __future__ import annotations

from unfoldc.targets.processors.base import Processor


def length(half: int) -> int:
    """Bytes of an instruction: two lowest bits that are both set say that it is not compressed."""
    return 4 if half & 3 == 3 else 2


def riscv(bits: int) -> Processor:
    """The processor with registers of so many bits."""
    return Processor(
        name="riscv",
        architecture="UC_ARCH_RISCV",
        modes=(f"UC_MODE_RISCV{bits}",),
        constants="unicorn.riscv_const",
        pc="UC_RISCV_REG_PC",
        sp="UC_RISCV_REG_SP",
        link="UC_RISCV_REG_RA",
        length=length,
        capstone="CS_ARCH_RISCV",
        capstone_modes=(f"CS_MODE_RISCV{bits}", "CS_MODE_RISCVC"),
    )
