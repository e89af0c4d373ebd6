"""A solver's firmware for a machine of QEMU's: the same objects as for its target, linked for the machine's memories.

The program is the runner (`targets/device`), whose parts are the firmware's entry points; so the code that is run and
counted is, function by function, that of `build_firmware`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.description import Target
from unfoldc.targets.device import device_source
from unfoldc.targets.firmware import compile_flags, firmware_sources
from unfoldc.targets.qemu import QemuMachine
from unfoldc.targets.remote.runner_build import digest_of
from unfoldc.targets.remote.runner_sources import SOLVER_HEADER, identity, port_bytes, runner_sources
from unfoldc.targets.runtime_library import runtime_objects
from unfoldc.targets.startup import linker_script
from unfoldc.targets.toolchains import CompilerError, Progress, build_folder, first_error, publish, run_compiler

_HEADER = """\
/* What the runner has to know of the solver @S: the firmware's own entry points and buffers. Made by unfoldc. */
#ifndef UNFOLDC_RUNNER_SOLVER_H
#define UNFOLDC_RUNNER_SOLVER_H

#include "@S.h"

#define RUNNER_NAME "@S"
#define RUNNER_IDENTITY {@IDENTITY}
#define RUNNER_ITERATIONS @ITERATIONSu
#define RUNNER_INPUTS @COUNT_INu
#define RUNNER_INPUT_BYTES @BYTES_INu
#define RUNNER_OUTPUTS @COUNT_OUTu
#define RUNNER_OUTPUT_BYTES @BYTES_OUTu
#define runner_state @S_firmware_state

extern @S_state @S_firmware_state;
@BUFFERS
void @S_firmware_begin(void);
void @S_firmware_iterate(void);
void @S_firmware_end(void);
void @S_firmware_solve(void);

static void *const runner_inputs[] = {@INPUTS};
static const uint32_t runner_input_bytes[] = {@IN_SIZES};
static void *const runner_outputs[] = {@OUTPUTS};
static const uint32_t runner_output_bytes[] = {@OUT_SIZES};

static inline void runner_begin(void) {
    unfoldc_qemu_count(@S_firmware_begin);
}

static inline void runner_iterate(void) {
    unfoldc_qemu_count(@S_firmware_iterate);
}

static inline void runner_end(void) {
    unfoldc_qemu_count(@S_firmware_end);
}

#define RUNNER_WHOLE @S_firmware_solve

#endif
"""

_PORT = "port_qemu.c"
CLOCK_HEADER = "unfoldc_clock.h"
# Painted and looked through for each measurement of the stack, at most; the solver's own takes hundreds of bytes.
_STACK_LOW = "unfoldc_stack_low = MAX(firmware_bss_end, firmware_stack_top - 0x40000);\n"
# The first two words of the table: the stack and the start.
_BOOT = "SECTIONS {{ .boot {at} : AT({at}) {{ LONG(firmware_stack_top) LONG({s}_firmware_reset | 1) }} }}\n"


def build_qemu(
    artifact: Artifact,
    target: Target,
    machine: QemuMachine,
    folder: Path,
    *,
    objects: Sequence[Path] = (),
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> Path:
    """Compile `artifact` for `target`, link it with the runner for `machine`, and return the ELF file in `folder`.

    A file that is there already is taken. `objects` are linked too, as by `build_firmware`. Raises TargetError where
    the program does not fit the machine, ToolError where the compiler fails.
    """
    symbol, script = artifact.symbol, f"{artifact.symbol}_qemu.ld"
    sources = _sources(artifact, target) | {script: _script(symbol, machine)}
    arguments = [*compile_flags(target), *_defines(symbol, machine), *(n for n in sources if n.endswith(".c"))]
    elf = f"{symbol}-{digest_of(artifact, sources, arguments)}.elf"
    if (folder / elf).is_file():
        return folder / elf
    if progress is not None:
        progress(f"linking for QEMU's {machine.name}")
    library = () if target.core is None else runtime_objects(target.core, progress=progress, timeout=timeout)
    arguments += [*(str(Path(o).resolve()) for o in (*objects, *library)), "-Wl,--gc-sections", "-T", script, "-o", elf]
    with build_folder(folder, sources) as temporary:
        try:
            purpose = f"building {symbol} for QEMU's {machine.name}"
            run_compiler(arguments, temporary, purpose, library_key=target.flags, progress=progress, timeout=timeout)
        except CompilerError as error:
            if "will not fit in region" not in error.output:
                raise
            raise TargetError(
                where=f"{symbol} with K = {artifact.iterations} on QEMU's {machine.name}",
                found=f"it does not fit ({first_error(error.output)})",
                allowed=f"{machine.flash.length} bytes of code and constants, {machine.ram.length} bytes of data",
                do="Choose a smaller problem, or run it in the target's own emulator.",
            ) from error
        return publish(temporary / elf, folder / elf)


def _script(symbol: str, machine: QemuMachine) -> str:
    text = linker_script(symbol, machine.flash, machine.ram) + _STACK_LOW
    return text if machine.boot is None else text + _BOOT.format(at=machine.boot, s=symbol)


def _sources(artifact: Artifact, target: Target) -> dict[str, str]:
    """Firmware and runner, between them a clock that counts instructions."""
    sources = firmware_sources(artifact, target) | runner_sources(artifact, (_PORT,))
    return sources | {CLOCK_HEADER: device_source("qemu_clock.h"), SOLVER_HEADER: _solver_header(artifact)}


def _defines(symbol: str, machine: QemuMachine) -> list[str]:
    values = {
        "QEMU_COUNTER": f"{machine.counter:#x}u",
        "QEMU_TICKS": f"{machine.ticks}u",
        "QEMU_INSTRUCTIONS": f"{machine.instructions}u",
        "QEMU_FAULT": f"{symbol}_firmware_fault",
        "QEMU_VECTORS": f"{symbol}_firmware_vectors",
        "UNFOLDC_RUNNER_STACK_LOW": "unfoldc_stack_low",
    }
    return [f"-D{name}={value}" for name, value in values.items()]


def _solver_header(artifact: Artifact) -> str:
    """C text that ties the runner to the entry points and buffers of the firmware."""
    ports = (("input", artifact.inputs), ("output", artifact.outputs))
    names = [[f"@S_firmware_{kind}_{i}" for i in range(len(each))] for kind, each in ports]
    sizes = [[port_bytes(p) for p in each] for _, each in ports]
    values = {
        "@IDENTITY": ", ".join(f"0x{byte:02X}" for byte in identity(artifact)),
        "@ITERATIONS": str(artifact.iterations),
        "@COUNT_IN": str(len(names[0])),
        "@COUNT_OUT": str(len(names[1])),
        "@BYTES_IN": str(sum(sizes[0])),
        "@BYTES_OUT": str(sum(sizes[1])),
        # The runner moves bytes: what their elements are is the firmware's affair.
        "@BUFFERS": "\n".join(f"extern uint8_t {name}[];" for name in names[0] + names[1]),
        "@INPUTS": ", ".join(names[0]) or "0",
        "@OUTPUTS": ", ".join(names[1]) or "0",
        "@IN_SIZES": ", ".join(f"{n}u" for n in sizes[0]) or "0u",
        "@OUT_SIZES": ", ".join(f"{n}u" for n in sizes[1]) or "0u",
    }
    text = _HEADER
    for key, value in values.items():
        text = text.replace(key, value)
    return text.replace("@S", artifact.symbol)
