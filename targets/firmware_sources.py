"""The parts of a firmware that are not the solver: the buffers and entry points, with the start-up code."""

from __future__ import annotations

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets.description import Target
from unfoldc.targets.startup import startup_source

C_TYPES = {
    "float32": "float",
    "float64": "double",
    "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

_MAIN = """\
/* Buffers and entry points around the solver, and start-up code for a device without an operating system. */
#include <stdint.h>
#include "@S.h"

/* What a debugger or an emulator looks up by name. */
@DECLARATIONS
void @S_firmware_begin(void);
void @S_firmware_iterate(void);
void @S_firmware_end(void);
void @S_firmware_solve(void);
void @S_firmware_run(void);

@DEFINITIONS

void @S_firmware_begin(void) {
    @S_begin(&@S_firmware_state@INPUTS);
}

void @S_firmware_iterate(void) {
    @S_iterate(&@S_firmware_state);
}

void @S_firmware_end(void) {
    @S_end(&@S_firmware_state@OUTPUTS);
}

void @S_firmware_solve(void) {
    @S_solve(&@S_firmware_state@INPUTS@OUTPUTS);
}

/* The first @S_firmware_iterations iterations instead of all. */
void @S_firmware_run(void) {
    @S_firmware_begin();
    for (uint32_t k = 0; k < @S_firmware_iterations; k++) {
        @S_firmware_iterate();
    }
    @S_firmware_end();
}

@STARTUP
/* Put the application here: fill the inputs, solve, use the outputs. */
__attribute__((noinline, weak)) int main(void) {
    for (;;) {
        @S_firmware_solve();
    }
}
"""


def main_source(artifact: Artifact, target: Target) -> str:
    """C text for a device: owns the state and buffers of `artifact`.

    Its calls take no arguments: for symbol S, `S_firmware_begin/iterate/end/solve/run` on `S_firmware_input_<i>` and
    `S_firmware_output_<i>`; `run` stops after `S_firmware_iterations`. Start-up code comes with it. `TargetError` for
    elements that the device does not compute with.
    """
    if target.core is None:
        raise ValueError(f"{target.name} takes no firmware")
    inputs = [_buffer(artifact.symbol, target.spec, "input", i, port) for i, port in enumerate(artifact.inputs)]
    outputs = [_buffer(artifact.symbol, target.spec, "output", i, port) for i, port in enumerate(artifact.outputs)]
    # Through `void *` the buffers fit the solver's parameters however it declares them.
    read = "".join(f", (const void *){name}" for name, _ in inputs)
    write = "".join(f", (void *){name}" for name, _ in outputs)
    objects = ["@S_state @S_firmware_state;", *(line for _, line in inputs + outputs)]
    counter = "volatile uint32_t @S_firmware_iterations"
    text = _MAIN.replace("@DECLARATIONS", "\n".join(f"extern {line}" for line in [*objects, f"{counter};"]))
    text = text.replace("@DEFINITIONS", "\n".join([*objects, f"{counter} = @S_ITERATIONS;"]))
    text = text.replace("@STARTUP", startup_source(target.core, artifact.symbol))
    return text.replace("@INPUTS", read).replace("@OUTPUTS", write).replace("@S", artifact.symbol)


def _buffer(symbol: str, spec: TargetSpec, kind: str, index: int, port: Port) -> tuple[str, str]:
    """Name and definition of the array that holds a port."""
    allowed = [t for t in C_TYPES if not t.startswith("float") or t in spec.float_types]
    if port.dtype not in allowed:
        raise TargetError(
            where=f"{kind} '{port.name}'",
            found=f"its elements are {port.dtype}",
            allowed=", ".join(allowed),
            do=f"Export the model with one of these types ({spec.name} computes in {' and '.join(spec.float_types)}).",
        )
    name = f"{symbol}_firmware_{kind}_{index}"
    return name, f"{C_TYPES[port.dtype]} {name}[{max(port.size, 1)}];"
