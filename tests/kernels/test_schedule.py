"""Which loops a target gets; that they compute the same is a law of test_pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, For, LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.target_spec import TargetSpec

HOST = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=8)
M4 = TargetSpec("cortex-m4", 32, vector_bits=0, accumulators=4)


@pytest.fixture
def wide(workshop: Any) -> LoopProgram:
    """Gradient steps with 19 unknowns: a product with A along its rows, and one along its columns."""
    return lower(optimise(import_onnx(workshop.saved("wide", 4)).program))


def kinds(program: LoopProgram) -> set[str]:
    return {s.kind for s in build.statements(program.steps[0].body) if isinstance(s, For)}


def most_accumulators(program: LoopProgram) -> int:
    loops = [s for s in build.statements(program.steps[0].body) if isinstance(s, For)]
    return max(sum(isinstance(b, Assign) for b in loop.body) for loop in loops)


def test_vectors_where_the_target_has_them(wide: LoopProgram) -> None:
    assert "vector" in kinds(schedule(wide, HOST))
    assert kinds(schedule(wide, M4)) == {"serial"}


def test_problems_side_by_side_need_no_vectors_within_one(wide: LoopProgram) -> None:
    assert kinds(schedule(wide, HOST, lanes=8)) == {"serial"}


def test_as_many_sums_as_registers(wide: LoopProgram) -> None:
    assert most_accumulators(schedule(wide, M4)) == 4
    assert most_accumulators(wide) == 1


def test_memory_is_planned(wide: LoopProgram) -> None:
    assert wide.scratch_bytes == 0
    for spec in (HOST, M4):
        program = schedule(wide, spec)
        scratch = {n for n, b in program.buffers.items() if b.space == "scratch"}
        assert scratch == program.scratch_offsets.keys()
        assert 0 < program.scratch_bytes <= 1024


def test_iterations_stay(wide: LoopProgram) -> None:
    assert [(s.first, s.count) for s in schedule(wide, HOST).steps] == [(0, 4)]


def all_kinds(program: LoopProgram) -> set[str]:
    return {s.kind for step in program.steps for s in build.statements(step.body) if isinstance(s, For)}


def test_sums_are_written_out_where_registers_are_many(wide: LoopProgram) -> None:
    assert "unroll" in all_kinds(schedule(wide, HOST, vectors=True))
    few = all_kinds(schedule(wide, replace(HOST, vector_bits=256, accumulators=8), vectors=True))
    assert "lanes" in few and "unroll" not in few
