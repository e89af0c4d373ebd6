"""emx-onnx-cgen's C as an `Artifact`, so that it is built into the same firmware as ours and counted by the same means.

All weights are constants in flash and all temporaries lie on the stack, as a device without a file system and without
a heap needs it; everything else is the generator's default.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact, MemoryPlan, Port

SYMBOL = "solver"
_OPTIONS = ("--large-temp-threshold", "0", "--large-weight-threshold", "0")

# A bare-metal compiler has no C library's headers; these are the functions that its run-time library has.
_LIBRARY = """\
#ifndef EMX_LIBRARY_H
#define EMX_LIBRARY_H
#include <stddef.h>
#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
float expf(float); float logf(float); float sqrtf(float); float fabsf(float); float fmaxf(float, float);
float fminf(float, float); float floorf(float); float ceilf(float); float roundf(float); float truncf(float);
float sinf(float); float cosf(float); float fmodf(float, float); float tanhf(float); float erff(float);
float powf(float, float); float nearbyintf(float); float log1pf(float);
double exp(double); double log(double); double sqrt(double); double fabs(double); double pow(double, double);
double floor(double); double ceil(double);
void *memcpy(void *, const void *, size_t);
void *memset(void *, int, size_t);
#endif
"""

# `end` computes, so that begin, iterate and end together are one solve, as with ours.
_HEADER = """\
#ifndef SOLVER_H
#define SOLVER_H
#include <stdint.h>
#define solver_ITERATIONS 1
typedef struct solver_state { @MEMBERS } solver_state;
void solver_begin(solver_state *s@INPUTS);
void solver_iterate(solver_state *s);
void solver_end(solver_state *s@OUTPUTS);
void solver_solve(solver_state *s@INPUTS@OUTPUTS);
#endif
"""

_CALLS = """
#include "solver.h"
void solver_begin(solver_state *s@INPUTS) { @KEEP }
void solver_iterate(solver_state *s) { (void)s; }
void solver_end(solver_state *s@OUTPUTS) { model(@KEPT@WRITTEN); }
void solver_solve(solver_state *s@INPUTS@OUTPUTS) { (void)s; model(@GIVEN@WRITTEN); }
"""


def emx_artifact(path: Path, like: Artifact) -> Artifact:
    """The generator's program for the model `path` of batch 1, with the ports of `like`, ours of the same solver.

    Raises ToolError where the generator refuses the model or its function has other arguments than the ports say.
    """
    text = generate(path)
    found, ports = parameters(text), [*like.inputs, *like.outputs]
    if found != [port.size for port in ports]:
        raise ToolError(
            where=f"{path.name}", found=f"the generated function takes arrays of {found} elements",
            allowed=", ".join(f"{port.name}: {port.size}" for port in ports), do="Compare the file's ports.",
        )  # fmt: skip
    return replace(
        like, symbol=SYMBOL, backend="emx", iterations=1, sources=sources(text, like.inputs, like.outputs), weights={},
        memory=MemoryPlan(None, None, 0), cost=None, early_stop="", notes={},
    )  # fmt: skip


def generate(path: Path) -> str:
    """The generated C; ToolError with the generator's own words where it refuses."""
    with tempfile.TemporaryDirectory(prefix="emx-") as folder:
        target = Path(folder) / "model.c"
        command = [str(Path(sys.executable).parent / "emx-onnx-cgen"), "compile", str(path), str(target), *_OPTIONS]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=600)
        if done.returncode or not target.is_file():
            lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            reason = next((line for line in lines if "rror" in line), lines[-1] if lines else "no message")
            raise ToolError(f"emx-onnx-cgen on {path.name}", reason[:300], "models that it takes", "Leave it out.")
        return target.read_text(encoding="utf-8")


def parameters(text: str) -> list[int]:
    """Elements of each array that the generated function `model` takes."""
    signature = re.findall(r"^void model\((.*?)\) \{", text, re.M | re.S)[-1]
    shapes = re.findall(r"\w+ \w+((?:\[(?:restrict )?\d+\])+)", signature)
    if len(shapes) != signature.count(",") + 1:
        raise ToolError("emx-onnx-cgen", f"a signature of an unknown form: {signature}", "arrays", "Read it again.")
    return [_product(re.findall(r"\d+", shape)) for shape in shapes]


def sources(text: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> dict[str, str]:
    """The generated program and the functions that the firmware calls, as one C file with its headers."""
    text = re.sub(r"#include <(math|stdlib|string|stdio)\.h>", '#include "emx_library.h"', text)
    text = re.sub(r"^void model\(", "__attribute__((noinline)) static void model(", text, flags=re.M)
    given, written = ([f"{kind}{i}" for i in range(len(ports))] for kind, ports in (("i", inputs), ("o", outputs)))
    parts = {
        "@INPUTS": "".join(f", const void *{name}" for name in given),
        "@OUTPUTS": "".join(f", void *{name}" for name in written),
        "@MEMBERS": " ".join(f"const void *{name};" for name in given),
        "@KEEP": " ".join(f"s->{name} = {name};" for name in given),
        "@KEPT": ", ".join(f"s->{name}" for name in given),
        "@GIVEN": ", ".join(given),
        "@WRITTEN": "".join(f", {name}" for name in written),
    }
    header, calls = _HEADER, _CALLS
    for mark, part in parts.items():
        header, calls = header.replace(mark, part), calls.replace(mark, part)
    return {"solver.h": header, "emx_library.h": _LIBRARY, "solver.c": text + calls}


def _product(numbers: Sequence[str]) -> int:
    n = 1
    for number in numbers:
        n *= int(number)
    return n
