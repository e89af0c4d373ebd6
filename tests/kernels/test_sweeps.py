"""A factorisation's large residual, as each target gets it: a few rows of it, and vectors where there are any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Buffer, For, Load, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.sweeps import in_sweeps
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.kernels.verify import verify_loops

HOST = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=8)
M4 = TargetSpec("cortex-m4", 32, vector_bits=0, accumulators=4)
N, M = 80, 78


@pytest.fixture(scope="module")
def factors(workshop: Any) -> Program:
    """Gradient steps on u and v of |tanh(Y - u vᵀ)|², both from the same old ones."""
    g = workshop.Graph()
    y, u, v = g.input("y", "batch", N, M), g.input("u", "batch", N, 1), g.input("v", "batch", M, 1)
    for g.k in range(2):
        residual = g("Tanh", g("Sub", y, g("MatMul", u, g("Transpose", v, perm=[0, 2, 1]))))
        step = g.weight("step", 1 / N)
        u, v = (
            g("Add", u, g("Mul", step, g("MatMul", residual, v))),
            g("Add", v, g("Mul", step, g("MatMul", g("Transpose", residual, perm=[0, 2, 1]), u))),
        )
    return optimise(workshop.imported(g.model(u, v)).program)


def largest_scratch(loops: LoopProgram) -> int:
    return max(b.nbytes for b in loops.buffers.values() if b.space == "scratch")


@pytest.mark.parametrize("spec", [HOST, M4], ids=["host", "cortex-m4"])
def test_the_residual_is_a_few_rows(factors: Program, spec: TargetSpec) -> None:
    plain = repeat_nests(lower(factors))
    swept = in_sweeps(plain, spec)
    verify_loops(swept)
    assert largest_scratch(plain) == N * M * 4
    assert largest_scratch(swept) <= 8 * 80 * 4
    assert schedule(swept, spec).scratch_bytes < N * M
    rng = np.random.default_rng(0)
    inputs = {n: rng.standard_normal(factors.types[n].shape).astype(np.float32) for n in factors.inputs}
    found = run(schedule(swept, spec), dict(zip(swept.inputs, inputs.values(), strict=True)), 1)
    for name, wanted in zip(swept.outputs, evaluate(factors, inputs, iterations=1), strict=True):
        assert np.linalg.norm(found[name] - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_small_solvers_stay(workshop: Any) -> None:
    plain = repeat_nests(lower(optimise(workshop.imported(workshop.make("wide", 4)).program)))
    assert in_sweeps(plain, HOST) == in_sweeps(plain, M4) == plain


def test_small_nests_join_only_where_the_printer_makes_the_vectors() -> None:
    """x <- tanh(h), y <- x + h over 16 numbers, and over more than fit the first cache."""
    for n, vectors, loops in ((16, True, 1), (16, False, 2), (8192, False, 1)):
        i = Var("i")
        h, t = (Load(name, (i,), "float32") for name in ("h", "t"))
        body = tuple(
            Nest((), (For("i", n, (Store(name, (i,), value),)),))
            for name, value in (("t", build.unary("tanh", h)), ("h", build.add(t, h)))
        )
        buffers = {"h": Buffer("h", "float32", (n,), "state"), "t": Buffer("t", "float32", (n,), "state")}
        program = LoopProgram(buffers, {}, (), (), (), (Step(0, 4, body),), ())
        spec = replace(HOST, first_cache=32 * 1024)
        found = build.statements(in_sweeps(program, spec, vectors).steps[0].body)
        assert sum(isinstance(s, For) for s in found) == loops
