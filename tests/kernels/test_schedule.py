"""Which loops a target gets; that they compute the same is a law of test_pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, For, LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.schedule_choices import default_choices
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.kernels.verify import verify_loops

HOST = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=8)
M4 = TargetSpec("cortex-m4", 32, vector_bits=0, accumulators=4)
RISCV = TargetSpec("rv32imfc", 32, vector_bits=0, accumulators=8)
IN_LOOPS = replace(default_choices(RISCV), straight=0)


@pytest.fixture
def wide(workshop: Any) -> LoopProgram:
    """Gradient steps with 19 unknowns: a product with A along its rows, and one along its columns."""
    return lower(optimise(import_onnx(workshop.saved("wide", 4)).program))


def in_loops(program: LoopProgram, spec: TargetSpec) -> LoopProgram:
    """As the target runs what is too long to be written out."""
    return schedule(program, spec, choices=replace(default_choices(spec), straight=0))


def kinds(program: LoopProgram) -> set[str]:
    return {s.kind for s in build.statements(program.steps[0].body) if isinstance(s, For)}


def most_accumulators(program: LoopProgram) -> int:
    loops = [s for s in build.statements(program.steps[0].body) if isinstance(s, For)]
    return max(sum(isinstance(b, Assign) for b in loop.body) for loop in loops)


def test_vectors_where_the_target_has_them(wide: LoopProgram) -> None:
    assert "vector" in kinds(schedule(wide, HOST))
    assert kinds(in_loops(wide, M4)) == {"serial"}
    assert not kinds(schedule(wide, M4))  # it is short enough to be written out


def test_problems_side_by_side_need_no_vectors_within_one(wide: LoopProgram) -> None:
    assert kinds(schedule(wide, HOST, lanes=8)) == {"serial"}


def test_as_many_sums_as_registers(wide: LoopProgram) -> None:
    assert most_accumulators(in_loops(wide, M4)) == 8  # of 32
    assert most_accumulators(schedule(wide, replace(M4, accumulators=2))) == 2
    assert most_accumulators(wide) == 1


def test_more_sums_in_iterations_than_before_them(workshop: Any) -> None:
    """32 rows with a constant matrix of their own, in `begin` and in each iteration."""
    g = workshop.Graph("float32")
    y = x = g.input("y", "batch", 32)
    rng = np.random.default_rng(3)
    w, v = (g.weight(n, rng.standard_normal((32, 32)) / 32) for n in "wv")
    start = g("MatMul", y, v)
    for g.k in range(3):
        x = g("Tanh", g("Add", g("MatMul", x, w), start))
    program = schedule(lower(optimise(workshop.imported(g.model(x)).program)), RISCV, choices=IN_LOOPS)
    verify_loops(program)
    most = [
        max(
            (
                len({b.name for b in s.body if isinstance(b, Assign)})
                for s in build.statements(part)
                if isinstance(s, For)
            ),
            default=0,
        )
        for part in (program.begin, program.steps[0].body)
    ]
    assert most == [8, 16]


def test_memory_is_planned(wide: LoopProgram) -> None:
    assert wide.scratch_bytes == 0
    for spec in (HOST, M4):
        program = in_loops(wide, spec)
        scratch = {n for n, b in program.buffers.items() if b.space == "scratch"}
        assert scratch == program.scratch_offsets.keys()
        assert 0 < program.scratch_bytes <= 1024


def test_iterations_stay(wide: LoopProgram) -> None:
    assert [(s.first, s.count) for s in schedule(wide, HOST).steps] == [(0, 4)]


@pytest.fixture(scope="module")
def gram(workshop: Any) -> Program:
    """Accelerated gradient steps with a symmetric matrix of order 38, of 11552 bytes."""
    g = workshop.Graph("float64")
    half = np.random.default_rng(1).standard_normal((38, 38))
    y, mu = g.input("y", "batch", 38), g.weight("mu", 0.5)
    w = g.weight("G", (half + half.T) / 76)
    x = z = y
    for g.k in range(3):
        new = g("Tanh", g("Sub", z, g("Mul", mu, g("Sub", g("MatMul", z, w), y))))
        z = g("Add", new, g("Mul", g.weight(f"beta.{g.k}", 0.1 + 0.1 * g.k), g("Sub", new, x)))
        x = new
    return optimise(workshop.imported(g.model(x)).program)


@pytest.mark.parametrize("cache", [8 * 38**2 - 1, 2**14])
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_half_of_a_symmetric_matrix_beyond_the_first_cache(gram: Program, bits: int, cache: int) -> None:
    plain = lower(gram)
    program = schedule(plain, replace(HOST, vector_bits=bits, first_cache=cache), vectors=True)
    verify_loops(program)
    read = sum(v.nbytes for v in program.constants.values())
    assert (read < 0.8 * 8 * 38**2) == (cache < 2**14)
    rng = np.random.default_rng(2)
    values = {n: rng.standard_normal(gram.types[n].shape) for n in gram.inputs}
    found = run(program, dict(zip(plain.inputs, values.values(), strict=True)))
    for name, wanted in zip(plain.outputs, evaluate(gram, values), strict=True):
        np.testing.assert_allclose(found[name], wanted, atol=1e-13)


def test_all_of_it_where_printers_or_targets_have_no_vectors(gram: Program) -> None:
    plain = lower(gram)
    small = replace(HOST, first_cache=0)
    for program in (schedule(plain, small), schedule(plain, small, lanes=8), schedule(plain, M4, vectors=True)):
        assert sum(v.size == 38**2 for v in program.constants.values()) == 1


def test_half_of_it_where_each_load_is_an_instruction(gram: Program) -> None:
    plain = lower(gram)
    program = schedule(plain, RISCV, choices=IN_LOOPS)
    verify_loops(program)
    assert sum(v.size for v in program.constants.values() if v.ndim > 1) < 0.6 * 38**2
    rng = np.random.default_rng(4)
    values = {n: rng.standard_normal(gram.types[n].shape) for n in gram.inputs}
    found = run(program, dict(zip(plain.inputs, values.values(), strict=True)))
    for name, wanted in zip(plain.outputs, evaluate(gram, values), strict=True):
        np.testing.assert_allclose(found[name], wanted, atol=1e-13)


def all_kinds(program: LoopProgram) -> set[str]:
    return {s.kind for step in program.steps for s in build.statements(step.body) if isinstance(s, For)}


def test_sums_are_written_out_where_registers_are_many(wide: LoopProgram) -> None:
    assert "unroll" in all_kinds(schedule(wide, HOST, vectors=True))
    few = all_kinds(schedule(wide, replace(HOST, vector_bits=256, accumulators=8), vectors=True))
    assert "lanes" in few and "unroll" not in few
