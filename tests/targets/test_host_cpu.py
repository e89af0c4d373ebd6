from __future__ import annotations

import platform
from pathlib import Path

import pytest

from unfoldc.targets.host_cpu import cache_bytes, host_flags, host_spec, host_target, vector_bits

X86 = "processor\t: 0\nvendor_id\t: X\nflags\t\t: fpu sse sse2 {}\nbugs\t\t: none\n"
ARM = "processor\t: 0\nFeatures\t: fp {} crc32\n"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "bits"),
    [
        ("x86_64", X86.format("avx avx2 fma avx512f avx512vl"), 512),
        ("x86_64", X86.format("avx avx2 fma"), 256),
        ("x86_64", X86.format("ssse3"), 128),
        ("AMD64", "", 128),
        ("aarch64", ARM.format("asimd"), 128),
        ("arm64", "", 128),
        ("armv7l", ARM.format("neon"), 128),
        ("armv6l", ARM.format("vfp"), 0),
        ("riscv64", "isa : rv64imafdc\n", 0),
    ],
)
def test_vector_width_by_processor(machine: str, cpuinfo: str, bits: int) -> None:
    assert vector_bits(machine, cpuinfo) == bits


@pytest.mark.parametrize(("bits", "lanes"), [(512, 32), (256, 16), (128, 8), (0, 0)])
def test_a_batch_fills_two_registers(bits: int, lanes: int) -> None:
    spec = host_spec(bits)
    assert spec.batch_lanes == lanes
    assert spec.vector_bits == bits
    assert ("-mprefer-vector-width=512" in host_flags(spec)) == (bits == 512)


def test_sums_leave_registers_for_operands() -> None:
    assert host_spec(512).accumulators == 16
    assert host_spec(256).accumulators == 8
    assert host_spec(128, "aarch64").accumulators == 16
    assert host_spec(128, "armv7l").word_bits == 32


@pytest.mark.parametrize(
    ("kind", "size", "found"),
    [("Data", "48K", 48 * 1024), ("Unified", "32K", 32 * 1024), ("Instruction", "32K", None), ("Data", "1M", None)],
)
def test_the_first_cache_as_the_system_describes_it(tmp_path: Path, kind: str, size: str, found: int | None) -> None:
    assert cache_bytes(tmp_path) == 128 * 1024
    (tmp_path / "type").write_text(f"{kind}\n")
    assert cache_bytes(tmp_path) == 128 * 1024
    (tmp_path / "size").write_text(f"{size}\n")
    assert cache_bytes(tmp_path) == (found or 128 * 1024)


def test_this_computer() -> None:
    t = host_target()
    assert t.name == "host" and t.kind == "host"
    assert platform.machine() in t.summary
    assert t.spec.flash_bytes is None and t.flash is None
