"""One answer: of gcc, clang and zig, with and without optimisation, under sanitizers, from one thread and eight."""

from __future__ import annotations

import subprocess
import threading
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from generated_c.compilers import (
    C99,
    COMPILERS,
    LEVELS,
    Library,
    compile_c,
    differs,
    executable,
    require,
    run_executable,
)
from generated_c.programs import METAL, Generated, load, operator_programs, solver_names, solver_program, write_units

import unfoldc
from unfoldc.targets.toolchains import FAST_MATH, SANITIZE

THREADS = 8
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}
# zig has no run-time library for sanitizers: undefined behaviour ends in a trap.
SANITIZERS = {
    "zig": (*LEVELS["zig"]["O3"][:1], "-Xclang", "-O1", *SANITIZE),
    "gcc": ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "clang": ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}
SAMPLE = pytest.mark.parametrize(
    "everything", [pytest.param(False, id="sample"), pytest.param(True, id="all", marks=pytest.mark.slow)]
)


def names(everything: bool, count: int = 3) -> list[str]:
    chosen = np.random.default_rng(3).choice(solver_names(), count, replace=False).tolist()
    return solver_names() if everything else ["float64", *(n for n in chosen if n != "float64")]


@cache
def solvers(everything: bool) -> tuple[Generated, ...]:
    return tuple(solver_program(name) for name in names(everything))


@cache
def operators(everything: bool) -> tuple[Generated, ...]:
    """For the host; those for bare metal, too, which bring functions that a C library has."""
    programs = [p for _, p in operator_programs("host", everything)]
    chosen = np.random.default_rng(4).permutation(len(programs))[: None if everything else 25]
    own = ("tanh", "erf", "round", "pow")
    metal = [p for _, p in operator_programs(METAL) if p.symbol.split("_")[0] in own]
    taken = {p.symbol for p in metal}
    return (*metal, *(programs[i] for i in chosen if programs[i].symbol not in taken))


def tolerance(program: Generated) -> float:
    return max((TOLERANCE.get(port.dtype, 0.0) for port in program.artifact.outputs), default=0.0)


@SAMPLE
@pytest.mark.parametrize("level", ["O0", "O3"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_agree_with_the_reference(compiler: str, level: str, everything: bool, tmp_path: Path) -> None:
    """Relative to the largest element, in float64; problems one by one and, where there are lanes, side by side."""
    require(compiler)
    library = Library(solvers(everything), compiler, level, tmp_path)
    for solver in solvers(everything):
        text = differs(solver, library.solve(solver), tolerance(solver))
        assert not text, text
        batch = library.solve(solver, 19)
        for item in range(19):
            outputs = zip(batch, solver.artifact.outputs, strict=True)
            one = [a[item] if p.batched else a for a, p in outputs]
            text = differs(solver, one, tolerance(solver))
            assert not text, f"problem {item} of 19: {text}"


@SAMPLE
@pytest.mark.parametrize("compiler", ["zig", "gcc", pytest.param("clang", marks=pytest.mark.slow)])
def test_sanitizers_find_nothing_and_answers_are_right(compiler: str, everything: bool, tmp_path: Path) -> None:
    """Every array a block of its own, so that the first element beyond one is seen."""
    require(compiler)
    programs = [*operators(everything), *solvers(everything)]
    path = executable(programs, compiler, [*SANITIZERS[compiler], *FAST_MATH], tmp_path)
    for program, found in zip(programs, run_executable(path, programs), strict=True):
        text = differs(program, found, 1e-4 if program not in solvers(everything) else tolerance(program))
        assert not text, text


def test_a_sanitizer_does_stop_what_it_should(tmp_path: Path) -> None:
    """An element beyond the caller's array, which no warning names."""
    solver = solvers(False)[0]
    text = solver.artifact.sources[f"{solver.symbol}.c"]
    beyond = text.replace(f"{solver.symbol}_end(s, output_0);", f"{solver.symbol}_end(s, output_0 + 1);")
    assert beyond != text and isinstance(solver.artifact.sources, dict)
    changed = Generated(solver_program(solver.symbol).artifact, solver.inputs, solver.wanted)
    assert isinstance(changed.artifact.sources, dict)
    changed.artifact.sources[f"{solver.symbol}.c"] = beyond
    require("gcc")
    path = executable([changed], "gcc", [*SANITIZERS["gcc"], "-w"], tmp_path)
    with pytest.raises(AssertionError, match="AddressSanitizer"):
        run_executable(path, [changed])


@pytest.mark.parametrize("backend", ["c", "numba", "tvm"])
def test_eight_threads_of_python_get_the_bits_that_one_gets(backend: str, tmp_path: Path) -> None:
    models = load("kernels/conftest.py", "kernels_conftest")
    model = models.make("admm", 4)
    onnx.save(model, tmp_path / "admm.onnx")
    solver = unfoldc.compile(tmp_path / "admm.onnx", backend=backend)
    problems = [models.feeds(model, 40 + t) for t in range(THREADS)]
    for t, inputs in enumerate(problems):
        for name in inputs:
            inputs[name] = inputs[name] + np.asarray(t / 10, inputs[name].dtype)
    wanted = [solver.run(inputs).outputs for inputs in problems]
    wrong: list[int] = []
    start = threading.Barrier(THREADS)

    def work(t: int) -> None:
        start.wait()
        for _ in range(30):
            found = solver.run(problems[t]).outputs
            if any(found[name].tobytes() != wanted[t][name].tobytes() for name in found):
                wrong.append(t)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


_THREADS = """\
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "@S.h"
#define THREADS 8
static float input[THREADS][@INPUT];
static float wanted[THREADS][@OUTPUT];
static void *work(void *number) {
    const size_t t = *(const size_t *)number;
    static @S_state states[THREADS];
    long wrong = 0;
    for (int n = 0; n < @TIMES; n++) {
        float output[@OUTPUT];
        @S_solve(&states[t], input[t], output);
        if (memcmp(output, wanted[t], sizeof(output)) != 0) { wrong++; }
    }
    return wrong == 0 ? NULL : number;
}
int main(void) {
    pthread_t threads[THREADS];
    size_t numbers[THREADS];
    int wrong = 0;
    for (size_t t = 0; t < THREADS; t++) {
        @S_state own;
        numbers[t] = t;
        for (size_t i = 0; i < @INPUT; i++) { input[t][i] = (float)((i * 7 + t * 3) % 11) / 5.0f - 1.0f; }
        @S_solve(&own, input[t], wanted[t]);
    }
    for (size_t t = 0; t < THREADS; t++) {
        if (pthread_create(&threads[t], NULL, work, &numbers[t]) != 0) { return 3; }
    }
    for (size_t t = 0; t < THREADS; t++) {
        void *result = NULL;
        if (pthread_join(threads[t], &result) != 0) { return 4; }
        wrong += result != NULL;
    }
    return wrong == 0 ? 0 : 2;
}
"""


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [("zig", LEVELS["zig"]["O3"]), ("gcc", ("-O1", "-fsanitize=thread")), ("clang", ("-O1", "-fsanitize=thread"))],
)
def test_eight_threads_of_c_get_the_bits_that_one_gets(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    """Each with a state of its own; ThreadSanitizer looks for memory that two of them write."""
    require(compiler)
    solver = solver_program("middle_differs")
    (inputs,), (outputs,) = solver.artifact.inputs, solver.artifact.outputs
    text = _THREADS.replace("@INPUT", str(inputs.size)).replace("@OUTPUT", str(outputs.size))
    text = text.replace("@S", solver.symbol).replace("@TIMES", "2000")
    (tmp_path / "threads.c").write_text(text)
    units = write_units([solver], tmp_path)
    compile_c(compiler, [*C99, *flags, *FAST_MATH, *units, "threads.c", "-lm", "-pthread", "-o", "threads"], tmp_path)
    done = subprocess.run([str(tmp_path / "threads")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr[:2000]
