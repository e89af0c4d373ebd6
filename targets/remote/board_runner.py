"""The runner of a solver as firmware: start-up code, a port for the board's UART, the runner and the solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.description import MemoryRegion, Target
from unfoldc.targets.remote.runner_build import digest_of, solver_sources
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


# Boards of the list of targets, with what is on them; the memories are the target's.
_STM32F4 = ("port_stm32f4.c", ("UNFOLDC_CLOCK_HZ=16000000u",))
_NRF52 = ("port_nrf52.c", ("UNFOLDC_CLOCK_HZ=64000000u",))
_PORTS = {"stm32f407": _STM32F4, "stm32f411": _STM32F4, "stm32f429": _STM32F4, "nrf52840": _NRF52}


def board_of(target: Target) -> Board | None:
    """The board that `target` stands for, where there is a port for it."""
    if target.name not in _PORTS or target.flash is None or target.ram is None:
        return None
    port, macros = _PORTS[target.name]
    return Board(port, macros, target.flash, target.ram)


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
    """Compile and link the runner for the core of `target` and the memories of `board` into `folder`, unless there.

    `objects` are linked too. Raises TargetError for a target without a core, ToolError where the compiler fails.
    """
    path, script = firmware_path(artifact, target, board, folder), f"{artifact.symbol}_runner.ld"
    if path.is_file():
        return path
    sources, flags = _sources(artifact, target, board), _flags(target, board)
    if progress is not None:
        progress(f"building the runner for {target.name}")
    with build_folder(folder, sources) as temporary:
        run_compiler(
            [
                *flags,
                *(n for n in sources if n.endswith(".c")),
                *(str(Path(o).resolve()) for o in objects),
                *("-Wl,--gc-sections", "-T", script, "-o", path.name),
            ],
            temporary,
            f"building the runner of {artifact.symbol} for {target.name}",
            library_key=target.flags,
            progress=progress,
            timeout=timeout,
        )
        return publish(temporary / path.name, path)


def firmware_path(artifact: Artifact, target: Target, board: Board, folder: Path) -> Path:
    """Where `build_board_runner` puts the firmware: equal names hold equal solvers, boards, runners and compilers."""
    digest = digest_of(artifact, _sources(artifact, target, board), _flags(target, board))
    return folder / f"{artifact.symbol}-{digest}.elf"


def _flags(target: Target, board: Board) -> tuple[str, ...]:
    macros = ("UNFOLDC_RUNNER_STACK_LOW=firmware_bss_end", *board.macros)
    return (*target.flags, *OPTIMISE, *FAST_MATH, *C99, *_BARE_METAL, *(f"-D{macro}" for macro in macros))


def _sources(artifact: Artifact, target: Target, board: Board) -> dict[str, str]:
    if target.core is None:
        raise TargetError(
            where=f"a runner as firmware for {target.name}",
            found="this target runs programs of an operating system",
            allowed="a target with a core",
            do="Choose one, or run the solver by ssh: or tvm-rpc:.",
        )
    sources = solver_sources(artifact, target) | runner_sources(artifact, (board.port,))
    return sources | {
        _START: f"#include <stdint.h>\n\n{startup_source(target.core, artifact.symbol)}",
        f"{artifact.symbol}_runner.ld": linker_script(artifact.symbol, board.flash, board.ram),
    }
