"""The C compilers of this machine, asked for the same things: zig, which is always there, gcc and clang."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from generated_c.programs import Generated, write_units
from unfoldc.runtime.engine_library import LibraryEngine
from unfoldc.targets.toolchains import FAST_MATH, run_compiler

COMPILERS = ("zig", "gcc", "clang")
C99 = ("-std=c99", "-pedantic")
WARNINGS = (
    *("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wdouble-promotion", "-Wfloat-conversion"),
    *("-Wshadow", "-Wvla", "-Wundef", "-Wcast-qual", "-Wcast-align", "-Wpointer-arith", "-Wwrite-strings"),
    *("-Wstrict-prototypes", "-Wmissing-prototypes", "-Wmissing-declarations"),
    *("-Wold-style-definition", "-Werror"),
)
CHECK_ONLY = {
    "zig": ("-c", "-O3", "-Xclang", "-O0", "-g0", "-Wno-unused-command-line-argument"),
    "gcc": ("-fsyntax-only",),
    "clang": ("-fsyntax-only",),
}
# Optimisation levels go through -Xclang: zig builds its run-time library anew for each level that it knows of.
LEVELS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "zig": {"O0": ("-O3", "-Xclang", "-O0", "-g0"), "O3": ("-O3", "-Xclang", "-O3", "-g0")},
    "gcc": {"O0": ("-O0",), "O3": ("-O3",)},
    "clang": {"O0": ("-O0",), "O3": ("-O3",)},
}
NATIVE = {"zig": "-mcpu=native", "gcc": "-march=native", "clang": "-march=native"}


def require(compiler: str) -> None:
    """Skips the test where the compiler is missing."""
    if compiler != "zig" and shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed (continuous integration installs it)")


def compile_c(compiler: str, arguments: Sequence[str], folder: Path) -> None:
    """Runs a compiler in `folder`; its messages fail the test."""
    if compiler == "zig":
        run_compiler(arguments, folder, "generated C")
        return
    done = subprocess.run([compiler, *arguments], cwd=folder, capture_output=True, text=True)
    assert not done.returncode, f"{compiler}: {done.stderr[:2000]}"


class Library:
    """The programs as one shared library, built by `compiler`; drivers and lanes included."""

    def __init__(self, programs: Sequence[Generated], compiler: str, level: str, folder: Path) -> None:
        for program in programs:
            program.write(folder)
        files = [name for p in programs for name in p.artifact.sources if name.endswith(".c")]
        path = folder / f"{compiler}-{level}.so"
        flags = (*C99, *WARNINGS, "-Wno-psabi", *LEVELS[compiler][level], *FAST_MATH, NATIVE[compiler])
        compile_c(compiler, [*flags, "-shared", "-fPIC", *files, "-lm", "-o", path.name], folder)
        self._engines = {p.symbol: LibraryEngine(p.artifact, path) for p in programs}

    def solve(self, program: Generated, batch: int = 1) -> list[np.ndarray]:
        """The outputs for `batch` copies of its problem."""
        artifact = program.artifact
        inputs = [
            np.ascontiguousarray(np.broadcast_to(a.reshape(p.shape), (batch, *p.shape))) if p.batched else a
            for a, p in zip(program.inputs, artifact.inputs, strict=True)
        ]
        outputs = [np.full((batch, *p.shape) if p.batched else p.shape, 77, p.dtype) for p in artifact.outputs]
        self._engines[program.symbol].solve(inputs, outputs, batch, artifact.iterations)
        return outputs


_RUN = """\
static void run_@S(void) {
    @S_state *const s = take(sizeof(@S_state));
@BUFFERS
    @S_solve(@ARGUMENTS);
@RESULTS
    free(s);
}
"""

_MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
@INCLUDES
static void *take(size_t n) {
    void *const p = malloc(n);
    if (p == NULL) { exit(2); }
    (void)memset(p, 0xA5, n);
    return p;
}
@RUNS
int main(void) {
@CALLS
    return 0;
}
"""


def executable(programs: Sequence[Generated], compiler: str, flags: Sequence[str], folder: Path) -> Path:
    """A program that reads the inputs of all `programs` from standard input and writes their outputs.

    Every array and every state is a block of its own on the heap, of exactly its size.
    """
    units = write_units(programs, folder)
    main = _MAIN.replace("@INCLUDES", "\n".join(f'#include "{p.symbol}.h"' for p in programs))
    main = main.replace("@CALLS", "\n".join(f"    run_{p.symbol}();" for p in programs))
    main = main.replace("@RUNS", "\n".join(_runner(p) for p in programs))
    (folder / "main.c").write_text(main)
    compile_c(compiler, [*C99, *flags, *units, "main.c", "-lm", "-o", "programs"], folder)
    return folder / "programs"


def _runner(program: Generated) -> str:
    artifact = program.artifact
    buffers, results, names = [], [], ["s"]
    for kind, ports in (("in", artifact.inputs), ("out", artifact.outputs)):
        for i, port in enumerate(ports):
            name, size = f"{kind}_{i}", port.size * np.dtype(port.dtype).itemsize
            names.append(name)
            buffers.append(f"    void *const {name} = take({max(size, 1)});")
            if kind == "in":
                buffers.append(f"    if (fread({name}, 1, {size}, stdin) != {size}) {{ exit(3); }}")
            else:
                results.append(f"    if (fwrite({name}, 1, {size}, stdout) != {size}) {{ exit(4); }}")
            results.append(f"    free({name});")
    text = _RUN.replace("@BUFFERS", "\n".join(buffers)).replace("@RESULTS", "\n".join(results))
    return text.replace("@ARGUMENTS", ", ".join(names)).replace("@S", program.symbol)


def run_executable(path: Path, programs: Sequence[Generated]) -> list[list[np.ndarray]]:
    """The outputs of each program; whatever a sanitizer says fails the test."""
    data = b"".join(np.ascontiguousarray(a).tobytes() for p in programs for a in p.inputs)
    done = subprocess.run([str(path)], input=data, capture_output=True, timeout=600)
    assert not done.returncode and not done.stderr, done.stderr.decode(errors="replace")[:3000]
    found, at = [], 0
    for program in programs:
        outputs = []
        for port in program.artifact.outputs:
            size = port.size * np.dtype(port.dtype).itemsize
            outputs.append(np.frombuffer(done.stdout[at : at + size], port.dtype).reshape(port.shape))
            at += size
        found.append(outputs)
    assert at == len(done.stdout)
    return found


def differs(program: Generated, found: Sequence[np.ndarray], tolerance: float) -> str:
    """What is wrong with the outputs; floats may be off relative to the largest finite number that is wanted."""
    for got, want, port in zip(found, program.wanted, program.artifact.outputs, strict=True):
        flat, right = got.astype(np.float64).ravel(), np.asarray(want, np.float64).ravel()
        if port.dtype == "float32":
            with np.errstate(over="ignore"):
                right = right.astype(np.float32).astype(np.float64)  # what overflows in float32 is infinite there
        limited = np.isfinite(right)
        scale = max(1.0, float(np.abs(right[limited]).max(initial=0)))
        limit = tolerance * scale if got.dtype.kind == "f" else 0.0
        with np.errstate(invalid="ignore"):
            bad = ~((np.abs(flat - right) <= limit) | (flat == right) | (np.isnan(flat) & np.isnan(right)))
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            return f"{program.symbol}, output {port.name}, element {i}: {flat[i]!r}, not {right[i]!r}"
    return ""
