"""Generated solvers with streams, and a program in C that gives them one slice after the other."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from generated_c.compilers import C99, compile_c

from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.passes.find_streams import Streams
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.targets.toolchains import SANITIZE

SANITIZERS = {
    "zig": ("-O3", "-Xclang", "-O1", *SANITIZE),  # stops, without a word, where behaviour is undefined
    "gcc": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "clang": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}


@dataclass(frozen=True)
class Streaming:
    """A compiled solver with streams and its inputs; buffer names give the order of the arguments."""

    artifact: Artifact
    program: Program
    streams: Streams
    inputs: tuple[np.ndarray, ...]

    @property
    def symbol(self) -> str:
        return self.artifact.symbol

    def write(self, folder: Path) -> list[str]:
        for name, text in self.artifact.sources.items():
            (folder / name).write_text(text)
        return [f"{self.symbol}.c", f"{self.symbol}_weights.c"]

    def answers(self, iterations: int) -> list[np.ndarray]:
        named = dict(zip(self.program.inputs, self.inputs, strict=True))
        return [np.asarray(a) for a in evaluate(self.program, named, dtype="float64", iterations=iterations)]


MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "@S.h"

static void *take(size_t n) {
    void *const p = malloc(n);
    if (p == NULL) { exit(2); }
    (void)memset(p, 0xA5, n);
    return p;
}
static void out(const void *p, size_t n) {
    if (fwrite(p, 1, n, stdout) != n) { exit(3); }
}

int main(void) {
    @S_state *const s = take(sizeof(@S_state));
    @S_state *const whole = take(sizeof(@S_state));
@READ
    @S_begin(@BEGIN);
    for (int k = 0; k < @S_ITERATIONS + 2; k++) {
        const int at = (k < @S_ITERATIONS) ? k : 0;
        if (s->k != ((k < @S_ITERATIONS) ? k : @S_ITERATIONS)) { exit(4); }
@SLICES
        if (@ALONE) { @S_next(@NOTHING); } else { @S_next(@NEXT); }
@AFTER
        @S_end(@OTHERS);
@WRITE
    }
    @S_end(@ALL);
@WHOLE
    @S_solve(@SOLVE);
@WHOLE
@FREE
    free(s);
    free(whole);
    return 0;
}
"""


def driver(solver: Streaming, alone: str = "0") -> str:
    """A program that gives each iteration its slice in a block of exactly its size, and NULL for whole streams.

    It writes, in each of K + 2 turns, the slices that come out and the other outputs; in the end all outputs, and what
    `solve` says. `alone` is the condition in C, of k, under which no output of `next` is wanted.
    """
    item = solver.inputs[0].itemsize
    slices = {s.name: s.size * item for s in (*solver.streams.inputs, *solver.streams.outputs)}
    sizes = {f"input_{i}": a.nbytes for i, a in enumerate(solver.inputs)}
    outputs = {f"output_{i}": p.size * item for i, p in enumerate(solver.artifact.outputs)}
    begins = {s.name: s.begins for s in solver.streams.inputs}
    read, begin, free = [], [], []
    for name, size in sizes.items():
        read.append(f"void *const {name} = take({size});")
        read.append(f"if (fread({name}, 1, {size}, stdin) != {size}) {{ exit(5); }}")
        free.append(name)
        if begins.get(name):  # what is not read yet may be anything
            read.append(f"void *const first = take({size});")
            read.append(f"(void)memcpy(first, {name}, {slices[name]});")
            free.append("first")
        begin.append("NULL" if name in begins and not begins[name] else "first" if name in begins else name)
    read += [f"void *const {name} = take({size});" for name, size in outputs.items()]
    inside = [f"void *const slice_{name} = take({size});" for name, size in slices.items()]
    for name in begins:
        place = f"(const char *){name} + (at * {slices[name]})"
        inside.append(f"(void)memcpy(slice_{name}, {place}, {slices[name]});")
    after = [f"out(slice_{name}, {slices[name]});" for name in slices if name not in begins]
    after += [f"free(slice_{name});" for name in slices]
    other = [name for name in outputs if name not in slices]
    words = {
        "READ": read, "BEGIN": begin, "SLICES": inside, "AFTER": after, "ALONE": alone,
        "NEXT": [f"slice_{name}" for name in slices],
        "NOTHING": [f"slice_{name}" if name in begins else "NULL" for name in slices],
        "OTHERS": ["NULL" if name in slices else name for name in outputs],
        "WRITE": [f"out({name}, {outputs[name]});" for name in other],
        "ALL": list(outputs), "WHOLE": [f"out({name}, {size});" for name, size in outputs.items()],
        "SOLVE": ["whole", *sizes, *outputs], "FREE": [f"free({name});" for name in (*free, *outputs)],
    }  # fmt: skip
    lists = ("BEGIN", "NEXT", "NOTHING", "OTHERS", "ALL", "SOLVE")
    text = MAIN
    for word, value in words.items():
        state = [] if word == "SOLVE" else ["s"]
        joined = value if isinstance(value, str) else "\n".join(f"    {line}" for line in value)
        text = text.replace(f"@{word}", ", ".join([*state, *value]) if word in lists else str(joined))
    return text.replace("@S", solver.symbol)


def run_driver(solver: Streaming, compiler: str, folder: Path, alone: str = "0") -> np.ndarray:
    (folder / "main.c").write_text(driver(solver, alone))
    files = solver.write(folder)
    flags = [*C99, "-Wall", "-Wextra", "-Werror", *SANITIZERS[compiler]]
    compile_c(compiler, [*flags, *files, "main.c", "-lm", "-o", "stream"], folder)
    data = b"".join(a.tobytes() for a in solver.inputs)
    done = subprocess.run([str(folder / "stream")], input=data, capture_output=True, timeout=60)
    assert not done.returncode and not done.stderr, (done.returncode, done.stderr.decode(errors="replace")[:2000])
    return np.frombuffer(done.stdout, solver.inputs[0].dtype)


@dataclass(frozen=True)
class Ran:
    """What a driver wrote: `slices` and `others` by output after each of its K + 2 turns, then all outputs, twice."""

    slices: list[dict[int, np.ndarray]]
    others: list[dict[int, np.ndarray]]
    streamed: list[np.ndarray]
    solved: list[np.ndarray]


def parts(solver: Streaming, found: np.ndarray) -> Ran:
    sizes = [port.size for port in solver.artifact.outputs]
    streams = {int(s.name.split("_")[1]): s.size for s in solver.streams.outputs}
    rest = {i: n for i, n in enumerate(sizes) if i not in streams}
    at, ran = 0, Ran([], [], [], [])

    def take(count: int) -> np.ndarray:
        nonlocal at
        at += count
        return found[at - count : at]

    for _ in range(solver.artifact.iterations + 2):
        ran.slices.append({i: take(n) for i, n in streams.items()})
        ran.others.append({i: take(n) for i, n in rest.items()})
    for outputs in (ran.streamed, ran.solved):
        outputs += [take(n) for n in sizes]
    assert at == found.size
    return ran
