"""C sources of an artifact -> a firmware for a microcontroller; refused, with the numbers, where it does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.boards import all_targets
from unfoldc.targets.description import Target
from unfoldc.targets.firmware_file import Firmware, read_firmware
from unfoldc.targets.firmware_sources import main_source
from unfoldc.targets.runtime_library import runtime_objects
from unfoldc.targets.startup import linker_script
from unfoldc.targets.toolchains import (
    C99,
    FAST_MATH,
    OPTIMISE,
    STRICT,
    CompilerError,
    Progress,
    build_folder,
    publish,
    run_compiler,
)

STACK_RESERVE = 1024
"""Bytes of RAM that must be free for the stack at least: the solver's and that of what interrupts it."""

STACK_NOTE = "stack_bound_bytes"
"""Key of `Artifact.notes`: bytes of stack that the solver takes at most on its device (None: unknown)."""

PER_ITERATION_NOTE = "constant_bytes_per_iteration"
"""Key of `Artifact.notes`: bytes of flash that each iteration adds (0: all weights are tied)."""

# zig assumes nothing about library functions on bare metal; told that they mean the usual, sqrtf is one instruction.
_BARE_METAL = (
    "-fhosted",
    "-ffunction-sections",
    "-fdata-sections",
    "-fstack-size-section",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)
_ROOMY = 0x4000_0000


def build_firmware(
    artifact: Artifact,
    target: Target,
    folder: Path,
    *,
    objects: Sequence[Path] = (),
    strict: bool = False,
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> Firmware:
    """Compile and link `artifact` for `target` into `<folder>/<symbol>.elf`.

    `<symbol>_main.c` (start-up code, buffers) and `<symbol>.ld` (linker script) are put beside it. `objects` are linked
    too; `strict` makes warnings errors; `timeout` in seconds. Raises `TargetError` when it does not fit, with the bytes
    missing and what would fit, and `ToolError` when the compiler fails.
    """
    if target.core is None or target.flash is None or target.ram is None:
        raise TargetError(
            where=f"firmware for {target.name}",
            found="this target runs a shared library, not a firmware",
            allowed=", ".join(t.name for t in all_targets() if t.kind == "emulated"),
            do="Choose one of these targets, or build a shared library.",
        )
    symbol, sources = artifact.symbol, firmware_sources(artifact, target)
    main, script, elf = f"{symbol}_main.c", f"{symbol}.ld", f"{symbol}.elf"
    sources[script] = linker_script(symbol, target.flash, target.ram)
    library = runtime_objects(target.core, progress=progress, timeout=timeout)
    arguments = [
        *(*compile_flags(target), *(STRICT if strict else ())),
        *(n for n in sources if n.endswith(".c")),
        *(str(Path(o).resolve()) for o in (*objects, *library)),
        *("-Wl,--gc-sections", "-T", script, "-o", elf),
    ]
    with build_folder(folder, sources) as temporary:

        def link() -> None:
            purpose = f"building {elf} for {target.name}"
            run_compiler(arguments, temporary, purpose, library_key=target.flags, progress=progress, timeout=timeout)

        try:
            link()
        except CompilerError as e:
            _explain_undefined(e, symbol, target)
            if "will not fit in region" not in e.output:
                raise
            # Link once more with room to spare, to learn how much is too much.
            flash, ram = replace(target.flash, length=_ROOMY), replace(target.ram, length=_ROOMY)
            (temporary / script).write_text(linker_script(symbol, flash, ram), encoding="utf-8")
            link()
            check_fit(artifact, target, read_firmware(temporary / elf, symbol, replace(target, flash=flash, ram=ram)))
            raise
        firmware = read_firmware(temporary / elf, symbol, target)
        check_fit(artifact, target, firmware)
        for name in (main, script, elf):
            publish(temporary / name, folder / name)
    return replace(firmware, elf=folder / elf)


def compile_flags(target: Target) -> tuple[str, ...]:
    """What the sources of a firmware for `target` are compiled with, wherever it is linked for."""
    return (*target.flags, *OPTIMISE, *FAST_MATH, *C99, *_BARE_METAL)


def firmware_sources(artifact: Artifact, target: Target) -> dict[str, str]:
    """The C sources for a device, `<symbol>_main.c` among them; raises TargetError where the back end made none."""
    symbol = artifact.symbol
    skipped = (f"{symbol}_host.c", f"{symbol}_lanes.c")  # drivers for the host
    sources = {n: t for n, t in artifact.sources.items() if n.endswith((".c", ".h")) and n not in skipped}
    if f"{symbol}.h" not in sources:
        raise TargetError(
            where=f"firmware for {target.name}",
            found=f"the back end '{artifact.backend}' made no C interface {symbol}.h",
            allowed="artifacts with C sources, or with a C header and objects",
            do="Compile with backend='c'.",
        )
    return sources | {f"{symbol}_main.c": main_source(artifact, target)}


def check_fit(artifact: Artifact, target: Target, firmware: Firmware) -> None:
    """Raise `TargetError`, with the bytes too many and what would fit, where `firmware` and a stack exceed `target`."""
    stack = max(STACK_RESERVE, firmware.stack_bound_bytes or 0)
    flash, ram = firmware.flash_bytes, firmware.ram_bytes + stack
    limits = (target.spec.flash_bytes, target.spec.ram_bytes)
    demands = zip(("flash", "RAM"), (flash, ram), limits, strict=True)
    over = [(name, need - has) for name, need, has in demands if has is not None and need > has]
    if not over:
        return
    advice = [*_smaller(artifact, dict(over)), *_larger_boards(flash, ram)]
    raise TargetError(
        where=f"{artifact.symbol} with K = {artifact.iterations} on {target.name}",
        found=f"it needs {flash} bytes of flash and {ram} bytes of RAM ({stack} of them for the stack), "
        + "which is "
        + " and ".join(f"{excess} bytes of {name} too much" for name, excess in over),
        allowed=f"{limits[0]} bytes of flash and {limits[1]} bytes of RAM",
        do=f"What would fit: {'; or '.join(advice)}.",
    )


def _smaller(artifact: Artifact, over: dict[str, int]) -> list[str]:
    """Advice to lower K, where that can help; with the number where the compiler noted what an iteration costs."""
    if "RAM" in over:
        return ["a smaller problem (RAM does not depend on K)"]
    step = artifact.notes.get(PER_ITERATION_NOTE)
    if step is None:
        return ["a smaller K, where each iteration has weights of its own"]
    fewer = artifact.iterations - math.ceil(over["flash"] / step) if step else 0
    return [f"K = {fewer}"] if fewer >= 1 else ["a smaller problem, or tied weights" if step else "a smaller problem"]


def _larger_boards(flash: int, ram: int) -> list[str]:
    boards = [t.name for t in all_targets() if (t.spec.flash_bytes or 0) >= flash and (t.spec.ram_bytes or 0) >= ram]
    if boards:
        return [f"the target {' or '.join(boards)}"]
    return ["a device that is not in the list (the target cortex-m4 measures without limits)"]


def _explain_undefined(error: CompilerError, symbol: str, target: Target) -> None:
    names = sorted(set(re.findall(r"undefined symbol: (\w+)", error.output)))
    if names:
        raise TargetError(
            where=f"{symbol} on {target.name}",
            found=f"the solver calls {', '.join(names)}, which a program without an operating system does not have",
            allowed="exp, log, sin, cos, tan, sqrt, fabs, floor, ceil, round, trunc, fma, fmin, fmax and fmod",
            do="Change the model to do without, or link an object that defines it.",
        ) from error
