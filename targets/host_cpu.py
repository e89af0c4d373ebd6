"""The running computer as a target: its vector width is read from the operating system, nothing heavy is imported."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets.description import Target

_CPUINFO = Path("/proc/cpuinfo")
_FIRST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index0")
_FLOAT_BITS = 32


def host_target() -> Target:
    """The `host` target for the processor that runs this Python."""
    machine = platform.machine()
    try:
        cpuinfo = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    spec = replace(host_spec(vector_bits(machine, cpuinfo), machine), first_cache=cache_bytes(_FIRST_CACHE))
    width = f"{spec.vector_bits}-bit vectors" if spec.vector_bits else "no vectors"
    return Target(
        spec=spec,
        kind="host",
        summary=f"this computer, {machine}, {width}",
        source="processor features as the operating system reports them",
        packages=("ziglang",),
        flags=host_flags(spec),
    )


def vector_bits(machine: str, cpuinfo: str) -> int:
    """Bits in a vector register for float32; where `cpuinfo` is empty, what all processors of the family have."""
    family = machine.lower()
    features = _features(cpuinfo)
    if family in ("x86_64", "amd64"):
        if "avx512f" in features:
            return 512
        return 256 if features & {"avx", "avx2"} else 128
    if family in ("aarch64", "arm64"):
        return 128
    if family.startswith("arm"):
        return 128 if "neon" in features else 0
    return 0


def cache_bytes(folder: Path) -> int:
    """Size of the cache that Linux describes in a folder; where it does not, or it is no data cache, the largest."""
    try:
        kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("type", "size"))
    except (OSError, ValueError):
        return TargetSpec.first_cache
    known = kind in ("Data", "Unified") and size.endswith("K") and size[:-1].isdecimal()
    return int(size[:-1]) * 1024 if known else TargetSpec.first_cache


def host_spec(bits: int, machine: str = "x86_64") -> TargetSpec:
    """The compiler's view of a host whose vector registers have `bits` bits; a batch fills two of them with floats."""
    # AVX-512 and NEON have 32 vector registers, AVX2 has 16: half of them may hold sums, the rest operands.
    many_registers = bits == 512 or machine.lower() in ("aarch64", "arm64")
    return TargetSpec(
        name="host",
        word_bits=64 if "64" in machine else 32,
        vector_bits=bits,
        accumulators=16 if many_registers else 8,
        batch_lanes=2 * bits // _FLOAT_BITS,
    )


def host_flags(spec: TargetSpec) -> tuple[str, ...]:
    """Compiler flags for the running processor; LLVM would use only half of a 512-bit register unless told."""
    return ("-mcpu=native", "-mprefer-vector-width=512") if spec.vector_bits >= 512 else ("-mcpu=native",)


def _features(cpuinfo: str) -> frozenset[str]:
    """The features of the first processor in the text of /proc/cpuinfo (`flags` on x86, `Features` on Arm)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()
