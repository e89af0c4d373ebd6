"""Processors of no device in particular: a core with roomy memories, and what is worth knowing to schedule for it."""

from __future__ import annotations

from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets import cores
from unfoldc.targets.description import Core, MemoryRegion, Target

_KIB = 1024
_MIB = 1024 * _KIB
_SRAM = 0x2000_0000
_PACKAGES = ("ziglang", "unicorn", "pyelftools", "capstone")


def _generic(
    core: Core,
    summary: str,
    source: str,
    *,
    flash: MemoryRegion,
    ram: MemoryRegion,
    accumulators: int = 4,
    float_types: tuple[str, ...] = ("float32",),
    vector_bits: int = 0,
    load_multiple: bool = False,
) -> Target:
    """A processor with roomy memories, which stand for no device in particular."""
    bits = 64 if core.name in ("rv64gc", "cortex-a53", "cortex-a72") else 32
    return Target(
        spec=TargetSpec(
            core.name,
            bits,
            vector_bits,
            accumulators,
            float_types=float_types,
            first_cache=32 * _KIB,
            load_multiple=load_multiple,
        ),
        kind="emulated",
        summary=f"{summary}; no memory limit",
        source=f"{source}; lengths are roomy on purpose",
        packages=_PACKAGES if core.unicorn_model else tuple(p for p in _PACKAGES if p != "unicorn"),
        flags=core.flags,
        core=core,
        flash=flash,
        ram=ram,
    )


_BOTH = ("float32", "float64")
_ROOMY = (MemoryRegion(0, 256 * _MIB), MemoryRegion(_SRAM, 256 * _MIB))
_RISCV = (MemoryRegion(0x8000_0000, 256 * _MIB), MemoryRegion(0x9000_0000, 256 * _MIB))
_TRM = "Technical Reference Manual: code from 0, SRAM from 0x20000000"
_VIRT = "memory map of QEMU's machine `virt`: RAM from 0x80000000, of which a half stands for flash"

CORTEX_M0 = _generic(
    cores.CORTEX_M0, "any Arm Cortex-M0 or M0+, floating point in software", f"Arm Cortex-M0+ {_TRM}",
    flash=_ROOMY[0], ram=_ROOMY[1], accumulators=2, float_types=_BOTH,
)  # fmt: skip
CORTEX_M4 = _generic(
    cores.CORTEX_M4, "any Arm Cortex-M4 with its single-precision floating-point unit", f"Arm Cortex-M4 {_TRM}",
    flash=_ROOMY[0], ram=_ROOMY[1], load_multiple=True,  # a load takes 2 cycles, one of N registers 1 + N
)  # fmt: skip
CORTEX_M7 = _generic(
    cores.CORTEX_M7, "any Arm Cortex-M7 with its double-precision floating-point unit", f"Arm Cortex-M7 {_TRM}",
    flash=_ROOMY[0], ram=_ROOMY[1], float_types=_BOTH,
)  # fmt: skip
CORTEX_M33 = _generic(
    cores.CORTEX_M33, "any Arm Cortex-M33 with its single-precision floating-point unit", f"Arm Cortex-M33 {_TRM}",
    flash=_ROOMY[0], ram=_ROOMY[1],
)  # fmt: skip
CORTEX_M55 = _generic(
    cores.CORTEX_M55, "any Arm Cortex-M55 with Helium vectors, on QEMU's mps3-an547",
    "Arm Application Note AN547: external memory from 0x60000000",
    flash=MemoryRegion(0x6000_0000, 128 * _MIB), ram=MemoryRegion(0x6800_0000, 128 * _MIB), float_types=_BOTH,
    accumulators=7, vector_bits=128,
)  # fmt: skip
RV32IMC = _generic(
    cores.RV32IMC, "any RISC-V RV32IMC, floating point in software", _VIRT,
    flash=_RISCV[0], ram=_RISCV[1], accumulators=2, float_types=_BOTH,
)  # fmt: skip
RV32IMFC = _generic(
    cores.RV32IMFC, "any RISC-V RV32IMFC with single-precision floating point", _VIRT,
    flash=_RISCV[0], ram=_RISCV[1], accumulators=8,
)  # fmt: skip
RV64GC = _generic(
    cores.RV64GC, "any RISC-V RV64GC with double-precision floating point", _VIRT,
    flash=_RISCV[0], ram=_RISCV[1], accumulators=8, float_types=_BOTH,
)  # fmt: skip
CORTEX_A53 = _generic(
    cores.CORTEX_A53, "any Arm Cortex-A53 (AArch64)", "any AArch64 system with RAM from 0x40000000",
    flash=MemoryRegion(0x4000_0000, 256 * _MIB), ram=MemoryRegion(0x5000_0000, 256 * _MIB),
    accumulators=8, float_types=_BOTH, vector_bits=128,
)  # fmt: skip
CORTEX_A72 = _generic(
    cores.CORTEX_A72, "any Arm Cortex-A72 (AArch64)", "any AArch64 system with RAM from 0x40000000",
    flash=MemoryRegion(0x4000_0000, 256 * _MIB), ram=MemoryRegion(0x5000_0000, 256 * _MIB),
    accumulators=8, float_types=_BOTH, vector_bits=128,
)  # fmt: skip

GENERIC = (
    CORTEX_M0, CORTEX_M4, CORTEX_M7, CORTEX_M33, CORTEX_M55, CORTEX_A53, CORTEX_A72, RV32IMC, RV32IMFC, RV64GC,
)  # fmt: skip
