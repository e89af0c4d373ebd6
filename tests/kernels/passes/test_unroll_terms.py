from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, For, LoopProgram
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.unroll_terms import unroll_terms
from unfoldc.kernels.passes.vector_results import vector_results


def unrolled(program: LoopProgram, terms: int, products: Any) -> list[For]:
    """The loops over terms that are left, after a look at whether the answer stays to the last bit."""
    body = unroll_terms(program.steps[0].body, terms)
    changed: LoopProgram = products.changed(program, body, {})
    assert (products.answer(changed) == products.answer(program)).all()
    return [s for s in build.statements(body) if isinstance(s, For) and any(isinstance(b, Assign) for b in s.body)]


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize(
    ("columns", "terms", "runs"), [(9, 4, 2), (8, 4, 2), (7, 4, 0), (4, 4, 0), (3, 8, 0), (9, 2, 4)]
)
def test_so_many_terms_at_a_time_and_the_rest_behind(
    columns: int, terms: int, runs: int, extra: bool, products: Any
) -> None:
    loops = unrolled(products.product(6, columns, transposed=False, extra=extra), terms, products)
    assert [s.extent for s in loops] == ([runs] if runs else [])
    assert all(sum(isinstance(b, Assign) for b in s.body) == terms for s in loops)


@pytest.mark.parametrize("extra", [False, True])
def test_blocks_of_rows_too(extra: bool, products: Any) -> None:
    program = products.product(6, 9, transposed=False, extra=extra)
    blocked = replace(program, steps=tuple(replace(s, body=block_rows(s.body, 4)) for s in program.steps))
    loops = unrolled(blocked, 2, products)
    assert {s.extent for s in loops} == {4} and max(len(s.body) for s in loops) >= 8


def test_loops_of_vectors_stay(products: Any) -> None:
    program = vector_results(products.product(16, 9, transposed=True), 128, 6)
    assert unroll_terms(program.steps[0].body, 4) == program.steps[0].body
