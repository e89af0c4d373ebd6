"""Nests that repeat become a loop, whatever they read, and compute the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import For, LoopProgram, Nest
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_loops

N = 5


def loops_over_nests(loops: LoopProgram) -> list[int]:
    """Lengths of the loops whose bodies are nests, over the whole program."""
    parts = (loops.begin, *(s.body for s in loops.steps), loops.end)
    found = [s.extent for part in parts for s in part if isinstance(s, For) and isinstance(s.body[0], Nest)]
    return [n for n in found if isinstance(n, int)]


def check(program: Program, seed: int = 0) -> LoopProgram:
    """The repeated form verified and compared with the reference; returned."""
    loops = repeat_nests(lower(program))
    verify_loops(loops)
    rng = np.random.default_rng(seed)
    inputs = {n: rng.standard_normal(program.types[n].shape).astype(np.float32) for n in program.inputs}
    stops = [program.iterations] if program.early_stop else range(1, program.iterations + 1)
    for k in stops:
        found = run(loops, dict(zip(loops.inputs, (inputs[n] for n in program.inputs), strict=True)), k)
        for name, wanted in zip(loops.outputs, evaluate(program, inputs, iterations=k), strict=True):
            error = np.linalg.norm(found[name].astype(float) - wanted)
            assert error <= 2e-5 * max(1.0, float(np.linalg.norm(wanted)))
    return loops


def inner_steps(workshop: Any, form: str, steps: int, iterations: int = 3) -> Program:
    """An outer iteration with `steps` inner ones: matrix, threshold, momentum, and constants of their own."""
    g = workshop.Graph()
    y = g.input("y", "batch", N)
    x = y
    w = g.weight("W", g.random("W", N, N) * 0.4)
    for g.k in range(iterations):
        u, before = x, y
        for t in range(steps):
            weight, step = w, g.weight("s", 0.7)
            if form == "untied":
                weight = g.weight(f"W{g.k}.{t}", g.random(f"W{g.k}.{t}", N, N) * 0.4)
            if form in ("numbers", "untied"):
                step = g.weight(f"s{t}", 0.5 + 0.1 * t * t)
            v = g("Tanh", g("MatMul", u, weight))
            v = g("MatMul", g("Add", v, y), w)
            if form == "momentum":
                v = g("Add", v, g("Mul", step, g("Sub", u, before)))
            u, before = g("Mul", step, g("Softplus", v)), u
            if form == "stream":
                place = g.weight(f"p{t}", t, "int64")
                u = g("Add", u, g("Unsqueeze", g("Gather", y, place, axis=1), g.weight("one", [1], "int64")))
        x = g("MatMul", u, w)
    return optimise(workshop.imported(g.model(x)).program, verify=True)


@pytest.mark.parametrize("form", ["tied", "numbers", "untied", "momentum", "stream"])
def test_inner_steps(workshop: Any, form: str) -> None:
    loops = check(inner_steps(workshop, form, 5))
    assert loops_over_nests(loops)


@pytest.mark.parametrize("form", ["tied", "untied", "momentum"])
def test_code_does_not_grow_with_the_inner_steps(workshop: Any, form: str) -> None:
    sizes = {
        steps: len(build.statements(repeat_nests(lower(inner_steps(workshop, form, steps))).steps[0].body))
        for steps in (6, 24)
    }
    assert sizes[6] == sizes[24]


def test_nests_that_differ_stay(workshop: Any) -> None:
    g = workshop.Graph()
    x = g.input("y", "batch", N)
    g.k = 0
    for operator in ("Tanh", "Sigmoid", "Softplus", "Abs", "Neg", "Sin"):
        x = g("MatMul", g(operator, x), g.weight("W", g.random("W", N, N)))
    assert not loops_over_nests(check(optimise(workshop.imported(g.model(x)).program)))


def test_what_is_read_in_between_is_kept(workshop: Any) -> None:
    """Every step's result is used later on: nothing may be overwritten."""
    g = workshop.Graph()
    x = g.input("y", "batch", N)
    g.k = 0
    seen = []
    for _ in range(5):
        x = g("Tanh", g("MatMul", x, g.weight("W", g.random("W", N, N))))
        seen.append(x)
    check(optimise(workshop.imported(g.model(g("MatMul", g("Sum", *seen), "W"))).program))


def test_every_solver_stays_right(solver: Any, workshop: Any) -> None:
    for iterations in (1, 4):
        program = optimise(import_onnx(workshop.saved(solver.name, iterations)).program)
        verify_loops(repeat_nests(lower(program)))
        if all(program.types[n].dtype == "float32" for n in program.inputs):
            check(program, iterations)


def chains(workshop: Any, seen: str) -> Program:
    """Two sequences of alike nests in one part; `seen` says what the second reads of the first."""
    g = workshop.Graph()
    y = x = g.input("y", "batch", N)
    g.k = 0
    w, v = g.weight("W", g.random("W", N, N)), g.weight("V", g.random("V", N, N))
    first = []
    for _ in range(6):
        x = g("MatMul", g("Tanh", g("MatMul", x, w)), w)
        first.append(x)
    read = {"last": first[-1:], "all": first, "none": [y]}[seen]
    for _ in range(8):
        x = g("Sigmoid", g("MatMul", g("MatMul", g("Sum", x, *read), v), w))
    return optimise(workshop.imported(g.model(g("Add", x, first[-1]))).program)


@pytest.mark.parametrize("seen", ["last", "all", "none"])
def test_what_a_later_loop_reads_of_an_earlier_one_is_there(workshop: Any, seen: str) -> None:
    assert len(loops_over_nests(check(chains(workshop, seen)))) == (1 if seen == "all" else 2)


def test_three_loops_behind_each_other(workshop: Any) -> None:
    """The later ones read the results of all before: none of their buffers may go."""
    g = workshop.Graph()
    x = g.input("y", "batch", N)
    g.k = 0
    ends = []
    for t, operator in enumerate(("Tanh", "Sigmoid", "Softplus")):
        weight = g.weight(f"W{t}", g.random(f"W{t}", N, N))
        for _ in range(4):
            x = g("Relu", g("MatMul", g(operator, g("MatMul", x, weight)), "W0"))
        ends.append(x)
        x = g("Sub", g("Sum", *ends), g("MatMul", x, "W0"))
    assert loops_over_nests(check(optimise(workshop.imported(g.model(x)).program))) == [4, 4, 4]


def test_factorisations_of_inner_steps_become_a_loop(workshop: Any) -> None:
    """A nest that stores at several places, each step on what the one before made."""
    g = workshop.Graph(style="none")
    x, a = g.input("x", "batch", N, 1), g.input("A", "batch", N, N)
    for k in range(5):
        shifted = g("Add", a, g("Mul", g.weight(f"rho{k}", 6.0 + k), g.weight("I", np.eye(N))))
        x = g("Tanh", g("Solve", shifted, x, domain="unfoldc"))
    program = workshop.imported(g.model(x)).program
    loops = check(optimise(replace(program.in_one(), guessed=False)))
    assert loops_over_nests(loops) == [4]  # the first one reads the input
