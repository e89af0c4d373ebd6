"""What the example program is filled in with: buffers of the ports, the calls' arguments, what it shows at the end."""

from __future__ import annotations

from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean

_PRINT = """\
    for (int32_t k = 0; k < @S_ITERATIONS; k++) {
        (void)printf("iteration %ld: %llu %s\\n", (long)k + 1, (unsigned long long)ticks[k], UNFOLDC_CLOCK_UNIT);
    }
"""
_SAY = """\
/* Says a number between two texts; unfoldc_write is in platform/: semihosting, for an emulator or a debugger. */
static void say(const char *before, uint32_t number, const char *after) {
    char digits[11];
    char *at = &digits[10];

    *at = '\\0';
    do {
        at--;
        *at = (char)('0' + (number % 10u));
        number /= 10u;
    } while (number > 0u);
    unfoldc_write(before);
    unfoldc_write(at);
    unfoldc_write(after);
}

"""
_TELL = """\
    unfoldc_clock_stamp all = 0;
    for (int32_t k = 0; k < @S_ITERATIONS; k++) {
        say("iteration ", (uint32_t)k + 1u, ": ");
        say("", (uint32_t)ticks[k], " " UNFOLDC_CLOCK_UNIT "\\n");
        all += ticks[k];
    }
    if (all == 0u) {
        unfoldc_write("the counter stands still here: QEMU has none for a Cortex-M3 and above, a board has\\n");
    }
"""
_WHERE = """\
, the times are in ticks: on a board without semihosting, read them in a
 * debugger, or let unfoldc_write (platform/) write to your UART"""


def example_values(artifact: Artifact, prints: bool) -> dict[str, str]:
    """For `main.c`; `prints`: there is an operating system with standard output."""
    inputs = [(f"input_{i}", port) for i, port in enumerate(artifact.inputs)]
    outputs = [(f"output_{i}", port) for i, port in enumerate(artifact.outputs)]
    buffers = [
        f"static {C_TYPES[p.dtype]} {name}[{max(p.size, 1)}]; "
        f"/* {clean(p.name)}, {' x '.join(map(str, p.shape)) or 'scalar'} */\n"
        for name, p in [*inputs, *outputs]
    ]
    fill = [
        f"    for (int32_t i = 0; i < {max(p.size, 1)}; i++) {{\n        {name}[i] = {_value(p.dtype)};\n    }}\n"
        for name, p in inputs
    ]
    return {
        "SYSTEM": "#include <stdio.h>\n" if prints else '\n#include "platform.h"',
        "ANSWER": " and ".join(name for name, _ in outputs),
        "WHERE": "" if prints else _WHERE,
        "SAY": "" if prints else _SAY,
        "BUFFERS": "".join(buffers),
        "FILL": "".join(fill),
        "INPUTS": "".join(f", {name}" for name, _ in inputs),
        "OUTPUTS": "".join(f", {name}" for name, _ in outputs),
        "EARLY": artifact.early_stop and "after the last iteration only" or "or after fewer iterations",
        "REPORT": (_PRINT if prints else _TELL).replace("@S", artifact.symbol),
    }


def _value(dtype: str) -> str:
    return {"float32": "1.0f", "float64": "1.0"}.get(dtype, "0")
