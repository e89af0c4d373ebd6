"""The processors that firmware is built for, as `zig cc`, GNU compilers, TVM, unicorn and QEMU name them."""

from __future__ import annotations

from dataclasses import replace

from unfoldc.targets.description import Core

_THUMB = "arm-none-eabi-"
_RISCV = "riscv64-unknown-elf-"
_AARCH64 = "aarch64-linux-gnu-"


def _cortex_m(
    name: str, zig: str, gnu: tuple[str, ...], triple: str, features: str, *, unicorn: str, qemu: str, hard: bool = True
) -> Core:
    """A Cortex-M; `features` are those of LLVM that its name alone does not say.

    zig's models of the M7, M33 and M55 come without their floating-point units, which are options of the processor.
    """
    abi = "eabihf" if hard else "eabi"
    return Core(
        name=name,
        architecture="thumb",
        flags=("-target", f"thumb-freestanding-{abi}", f"-mcpu={zig}"),
        gnu_prefix=_THUMB,
        gnu_flags=("-mthumb", *gnu, f"-mfloat-abi={'hard' if hard else 'soft'}"),
        tvm={
            "mtriple": f"{triple}-unknown-none-{abi}",
            "mcpu": name.replace("cortex-m0", "cortex-m0plus"),
            "mattr": features.split(),
            "mfloat-abi": "hard" if hard else "soft",
        },
        emulator="unicorn" if unicorn else "qemu",
        clock="dwt" if name != "cortex-m0" else "systick",
        unicorn_model=unicorn,
        qemu_machine=qemu,
        timing=name,
        hard_float=hard,
    )


CORTEX_M0 = _cortex_m(
    "cortex-m0", "cortex_m0plus", ("-mcpu=cortex-m0plus",), "thumbv6m", "",
    unicorn="UC_CPU_ARM_CORTEX_M0", qemu="mps2-an385", hard=False,
)  # fmt: skip
CORTEX_M4 = _cortex_m(
    "cortex-m4", "cortex_m4+vfp4d16sp", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"), "thumbv7em", "+vfp4d16sp",
    unicorn="UC_CPU_ARM_CORTEX_M4", qemu="mps2-an386",
)  # fmt: skip
# unicorn's own Cortex-M7 has single precision alone; this one knows all its instructions (`processors/thumb.py`).
CORTEX_M7 = _cortex_m(
    "cortex-m7", "cortex_m7+fp_armv8d16", ("-mcpu=cortex-m7", "-mfpu=fpv5-d16"), "thumbv7em", "+fp-armv8d16",
    unicorn="UC_CPU_ARM_MAX", qemu="mps2-an500",
)  # fmt: skip
CORTEX_M33 = _cortex_m(
    "cortex-m33", "cortex_m33+fp_armv8d16sp", ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16"), "thumbv8m.main",
    "+fp-armv8d16sp",
    unicorn="UC_CPU_ARM_CORTEX_M33", qemu="mps2-an505",
)  # fmt: skip
CORTEX_M55 = _cortex_m(
    "cortex-m55", "cortex_m55+mve_fp+fp_armv8d16", ("-mcpu=cortex-m55",), "thumbv8.1m.main", "+fp-armv8d16 -mve.fp",
    unicorn="", qemu="mps3-an547",
)  # fmt: skip
# LLVM compares vectors with NaN wrongly (`vector_comparisons.py`): C brings vectors of its own, TVM has none.
CORTEX_M55 = replace(CORTEX_M55, flags=(*CORTEX_M55.flags, "-fno-vectorize", "-fno-slp-vectorize"))


def _cortex_a(name: str, unicorn: str) -> Core:
    """A Cortex-A. Position-independent code would read addresses from memory that the start-up code fills."""
    return Core(
        name=name,
        architecture="aarch64",
        flags=("-target", "aarch64-freestanding-none", f"-mcpu={name.replace('-', '_')}"),
        gnu_prefix=_AARCH64,
        gnu_flags=(f"-mcpu={name}", "-fno-pie", "-no-pie"),
        tvm={"mtriple": "aarch64-linux-gnu", "mcpu": name},
        emulator="unicorn",
        clock="cntvct",
        unicorn_model=unicorn,
        linux="aarch64-linux-musl",
        timing=name,
    )


CORTEX_A53 = _cortex_a("cortex-a53", "UC_CPU_ARM64_A53")
CORTEX_A72 = _cortex_a("cortex-a72", "UC_CPU_ARM64_A72")


def _riscv(name: str, bits: int, extensions: str, abi: str, unicorn: str) -> Core:
    letters = "".join(extensions.split("+"))
    return Core(
        name=name,
        architecture="riscv",
        flags=(
            "-target", f"riscv{bits}-freestanding-none", f"-mcpu=generic_rv{bits}+{extensions}+relax", f"-mabi={abi}",
            "-mcmodel=medium",
        ),
        gnu_prefix=_RISCV,
        gnu_flags=(f"-march=rv{bits}i{letters}", f"-mabi={abi}", "-mcmodel=medany"),
        tvm={
            "mtriple": f"riscv{bits}-unknown-none-elf",
            "mcpu": f"generic-rv{bits}",
            "mattr": [f"+{letter}" for letter in letters],
            "mabi": abi,
        },
        emulator="unicorn",
        clock="mcycle",
        unicorn_model=unicorn,
        qemu_machine="virt",
        runtime_model="medium" if bits == 64 else "",
        hard_float="f" in letters,
    )  # fmt: skip


RV32IMC = _riscv("rv32imc", 32, "m+c", "ilp32", "UC_CPU_RISCV32_ANY")
RV32IMFC = _riscv("rv32imfc", 32, "m+f+c", "ilp32f", "UC_CPU_RISCV32_ANY")
RV64GC = _riscv("rv64gc", 64, "m+a+f+d+c", "lp64d", "UC_CPU_RISCV64_ANY")
