"""Start-up code and linker script with the GNU tools; `test_cores.py` has them with zig."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools_at_hand import needs_tool

from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware_file import read_firmware
from unfoldc.targets.firmware_sources import main_source
from unfoldc.targets.startup import linker_script

# Freestanding, yet the compiler may call memset; -nostdlib leaves that to libgcc and to nobody.
FLAGS = (
    "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-std=c99", "-ffunction-sections", "-fdata-sections",
    "-ffreestanding", "-fno-tree-loop-distribute-patterns", "-nostdlib", "-static", "-Wl,--gc-sections",
    "-Wl,--build-id=none",
)  # fmt: skip
CASES = [
    pytest.param(name, marks=needs_tool(tool))
    for names, tool in (
        (("cortex-m0", "cortex-m4", "cortex-m7", "rp2350"), "arm-none-eabi-gcc"),
        (("rv32imfc", "rv64gc", "esp32-c3"), "riscv64-unknown-elf-gcc"),
        (("cortex-a53",), "aarch64-linux-gnu-gcc"),
    )
    for name in names
]


@pytest.mark.parametrize("name", CASES)
def test_the_gnu_tools_build_firmware_that_runs(lista: Any, problems: np.ndarray, name: str, tmp_path: Path) -> None:
    target, artifact = find_target(name), lista.artifact(name)
    core = target.core
    assert core is not None and target.flash is not None and target.ram is not None
    for file in ("solver.h", "solver.c", "solver_weights.h", "solver_weights.c"):
        (tmp_path / file).write_text(artifact.sources[file])
    (tmp_path / "main.c").write_text(main_source(artifact, target))
    (tmp_path / "solver.ld").write_text(linker_script("solver", target.flash, target.ram))
    command = [f"{core.gnu_prefix}gcc", *core.gnu_flags, *FLAGS, "solver.c", "solver_weights.c", "main.c"]
    library = ["-lgcc"] if core.architecture != "aarch64" else []
    done = subprocess.run(
        [*command, "-T", "solver.ld", *library, "-o", "solver.elf"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:2000]
    firmware = read_firmware(tmp_path / "solver.elf", "solver", target)
    emulator = Emulator(firmware, artifact, target)
    for y in problems[:2]:
        np.testing.assert_allclose(emulator.solve([y])[0], lista.solve(y), atol=1e-6)
    counts = emulator.count()
    assert firmware.stack_bound_bytes is not None and counts.stack_bytes <= firmware.stack_bound_bytes
