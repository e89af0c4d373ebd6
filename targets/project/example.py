"""What the example program is filled in with: buffers of the ports, the calls' arguments, what it shows at the end."""

from __future__ import annotations

from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean

_SHOW = """\
    for (int32_t k = 0; k < @S_ITERATIONS; k++) {
        (void)printf("iteration %ld: %llu %s\\n", (long)k + 1, (unsigned long long)ticks[k], UNFOLDC_CLOCK_UNIT);
    }
"""


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
        "SYSTEM": "#include <stdio.h>\n" if prints else "",
        "BUFFERS": "".join(buffers),
        "FILL": "".join(fill),
        "INPUTS": "".join(f", {name}" for name, _ in inputs),
        "OUTPUTS": "".join(f", {name}" for name, _ in outputs),
        "EARLY": artifact.early_stop and "after the last iteration only" or "or after fewer iterations",
        "REPORT": _SHOW.replace("@S", artifact.symbol) if prints else "",
    }


def _value(dtype: str) -> str:
    return {"float32": "1.0f", "float64": "1.0"}.get(dtype, "0")
