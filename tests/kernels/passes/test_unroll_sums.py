from __future__ import annotations

from typing import Any

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import For, LoopProgram
from unfoldc.kernels.passes.unroll_sums import unroll_sums
from unfoldc.kernels.passes.vector_results import vector_results


def unrolled(program: LoopProgram, products: Any) -> list[Any]:
    """The lengths of the loops that are marked, after a look at whether the answer stays."""
    body = unroll_sums(program.steps[0].body)
    changed: LoopProgram = products.changed(program, body, {})
    assert (products.answer(changed) == products.answer(program)).all()
    return [s.extent for s in build.statements(body) if isinstance(s, For) and s.kind == "unroll"]


@pytest.mark.parametrize(("columns", "marked"), [(9, True), (64, True), (257, False)])
def test_short_sums_of_vectors_are_written_out(columns: int, marked: bool, products: Any) -> None:
    """16 results are 4 vectors, of which each has a sum, or several of fewer terms."""
    program = vector_results(products.product(16, columns, transposed=True), 128, 6)
    found = unrolled(program, products)
    assert bool(found) == marked
    assert sum(found) * 4 <= 256


def test_other_loops_stay(products: Any) -> None:
    plain = products.product(16, 9, transposed=True)
    assert unrolled(plain, products) == []  # no vectors
    program = vector_results(plain, 128, 6)
    kinds = {s.kind for s in build.statements(unroll_sums(program.begin)) if isinstance(s, For)}
    assert "unroll" not in kinds  # no sums


def test_inside_a_further_loop_they_stay(products: Any) -> None:
    """60 results are several blocks of vectors."""
    program = vector_results(products.product(60, 9, transposed=True), 128, 2)
    (nest,) = program.steps[0].body
    blocks = [s for s in build.statements((nest,)) if isinstance(s, For) and s.var == "i_b"]
    assert blocks
    kinds = {s.kind for s in build.statements(unroll_sums(tuple(blocks))) if isinstance(s, For)}
    assert "lanes" in kinds and "unroll" not in kinds
