"""The C that ties the runner to one solver: its buffers, their sizes, its identity."""

from __future__ import annotations

import hashlib

import numpy as np

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.targets.device import device_source
from unfoldc.targets.firmware_sources import C_TYPES

SOLVER_HEADER = "unfoldc_runner_solver.h"
_COMMON = ("unfoldc_clock.h", "unfoldc_runner.h", "unfoldc_runner.c")

_TEXT = """\
/* What the runner has to know of the solver @S. Made by unfoldc. */
#ifndef UNFOLDC_RUNNER_SOLVER_H
#define UNFOLDC_RUNNER_SOLVER_H

#include "@S.h"

#define RUNNER_NAME "@S"
#define RUNNER_IDENTITY {@IDENTITY}
#define RUNNER_ITERATIONS @ITERATIONSu
#define RUNNER_INPUTS @INPUTSu
#define RUNNER_INPUT_BYTES @INPUT_BYTESu
#define RUNNER_OUTPUTS @OUTPUTSu
#define RUNNER_OUTPUT_BYTES @OUTPUT_BYTESu

#if defined(__linux__)
#define RUNNER_ALIGNED __attribute__((aligned(64))) /* as wide as vectors get */
#else
#define RUNNER_ALIGNED __attribute__((aligned(8)))
#endif

static @S_state runner_state RUNNER_ALIGNED;
@BUFFERS
static inline void runner_begin(void) {
    @S_begin(&runner_state@READ);
}

static inline void runner_iterate(void) {
    @S_iterate(&runner_state);
}

static inline void runner_end(void) {
    @S_end(&runner_state@WRITE);
}

#endif
"""


def identity(artifact: Artifact) -> bytes:
    """16 bytes that tell one solver from another: a digest of its code, but for host drivers, and of its weights."""
    symbol = artifact.symbol
    code = (f"{symbol}.h", f"{symbol}.c", f"{symbol}.tir")
    total = hashlib.sha256(f"{symbol} {artifact.iterations}".encode())
    for name in code:
        if name in artifact.sources:
            total.update(f"\0{name}\0".encode() + artifact.sources[name].encode())
    for name in sorted(artifact.weights):
        array = np.ascontiguousarray(artifact.weights[name])
        total.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode() + array.tobytes())
    return total.digest()[:16]


def runner_sources(artifact: Artifact, ports: tuple[str, ...] = ()) -> dict[str, str]:
    """File name -> text of the runner around `artifact`, with the files of `targets/device` named in `ports`."""
    return {SOLVER_HEADER: solver_header(artifact)} | {name: device_source(name) for name in (*_COMMON, *ports)}


def solver_header(artifact: Artifact) -> str:
    """C text that owns the state and the buffers of `artifact`; for one translation unit, the runner's."""
    inputs, outputs = artifact.inputs, artifact.outputs
    names = {"input": [f"runner_input_{i}" for i in range(len(inputs))]}
    names["output"] = [f"runner_output_{i}" for i in range(len(outputs))]
    buffers = "".join(_buffers(kind, names[kind], ports) for kind, ports in (("input", inputs), ("output", outputs)))
    values = {
        "@IDENTITY": ", ".join(f"0x{byte:02X}" for byte in identity(artifact)),
        "@ITERATIONS": str(artifact.iterations),
        "@INPUTS": str(len(inputs)),
        "@INPUT_BYTES": str(sum(map(port_bytes, inputs))),
        "@OUTPUTS": str(len(outputs)),
        "@OUTPUT_BYTES": str(sum(map(port_bytes, outputs))),
        "@BUFFERS": buffers,
        # Through `void *` the buffers fit the solver's parameters however it declares them.
        "@READ": "".join(f", (const void *){name}" for name in names["input"]),
        "@WRITE": "".join(f", (void *){name}" for name in names["output"]),
        "@S": artifact.symbol,
    }
    text = _TEXT
    for key, value in values.items():
        text = text.replace(key, value)
    return text


def port_bytes(port: Port) -> int:
    """Bytes of one problem's array."""
    return port.size * np.dtype(port.dtype).itemsize


def _buffers(kind: str, names: list[str], ports: tuple[Port, ...]) -> str:
    lines = []
    for name, port in zip(names, ports, strict=True):
        if port.dtype not in C_TYPES:
            raise TargetError(
                where=f"{kind} '{port.name}'",
                found=f"its elements are {port.dtype}",
                allowed=", ".join(C_TYPES),
                do="Export the model with one of these types.",
            )
        lines.append(f"static {C_TYPES[port.dtype]} {name}[{max(port.size, 1)}] RUNNER_ALIGNED;\n")
    table, sizes = ", ".join(names) or "0", ", ".join(f"{port_bytes(p)}u" for p in ports) or "0u"
    lines.append(f"static void *const runner_{kind}s[] = {{{table}}};\n")
    lines.append(f"static const uint32_t runner_{kind}_bytes[] = {{{sizes}}};\n")
    return "".join(lines)
