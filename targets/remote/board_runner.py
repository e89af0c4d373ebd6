"""The runner of a solver as firmware: start-up code, a port for the board's UART, the runner and the solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.description import MemoryRegion, Target
from unfoldc.targets.remote.runner_build import solver_sources
from unfoldc.targets.remote.runner_sources import runner_sources
from unfoldc.targets.startup import linker_script, startup_source
from unfoldc.targets.toolchains import C99, FAST_MATH, OPTIMISE, Progress, build_folder, publish, run_compiler

_BARE_METAL = ("-fhosted", "-ffunction-sections", "-fdata-sections", "-fno-unwind-tables")
_START = "unfoldc_start.c"


@dataclass(frozen=True)
class Board:
    """How a board speaks: `port`, a file of `targets/device`; `macros` for it and for the clock; its memories."""

    port: str
    macros: tuple[str, ...]
    flash: MemoryRegion
    ram: MemoryRegion


_MIB = 1 << 20
# QEMU has no cycle counter in its Cortex-M: SysTick counts instead, in the time of the emulated board.
MPS2_AN386 = Board(
    "port_cmsdk_uart.c", ("UNFOLDC_CLOCK_SYSTICK",), MemoryRegion(0, 4 * _MIB), MemoryRegion(0x2000_0000, 4 * _MIB)
)
"""Cortex-M4 on QEMU's machine `mps2-an386`."""


def build_board_runner(
    artifact: Artifact,
    target: Target,
    board: Board,
    folder: Path,
    *,
    objects: Sequence[Path] = (),
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> Path:
    """Compile and link `<folder>/<symbol>_runner.elf` for the core of `target` and the memories of `board`.

    `objects` are linked too. Raises TargetError for a target without a core, ToolError where the compiler fails.
    """
    if target.core is None:
        raise TargetError(
            where=f"a runner as firmware for {target.name}",
            found="this target runs programs of an operating system",
            allowed="a target with a core",
            do="Choose one, or run the solver by ssh: or tvm-rpc:.",
        )
    symbol, elf, script = artifact.symbol, f"{artifact.symbol}_runner.elf", f"{artifact.symbol}_runner.ld"
    sources = solver_sources(artifact, target) | runner_sources(artifact, (board.port,))
    sources |= {
        _START: f"#include <stdint.h>\n\n{startup_source(target.core, symbol)}",
        script: linker_script(symbol, board.flash, board.ram),
    }
    macros = ("UNFOLDC_RUNNER_STACK_LOW=firmware_bss_end", *board.macros)
    with build_folder(folder, sources) as temporary:
        run_compiler(
            [
                *(*target.flags, *OPTIMISE, *FAST_MATH, *C99, *_BARE_METAL, *(f"-D{macro}" for macro in macros)),
                *(n for n in sources if n.endswith(".c")),
                *(str(Path(o).resolve()) for o in objects),
                *("-Wl,--gc-sections", "-T", script, "-o", elf),
            ],
            temporary,
            f"building {elf} for {target.name}",
            library_key=target.flags,
            progress=progress,
            timeout=timeout,
        )
        return publish(temporary / elf, folder / elf)
