"""Matrices read across their rows are copied so that results, or terms, lie side by side; nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    ITERATION,
    Assign,
    Buffer,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.passes.pack_operands import pack_operands
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.verify import verify_loops

F = "float32"
N, M, R = 6, 9, 3
I, J, C = Var("i"), Var("j"), Var("c")  # noqa: E741


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, F)


def sums(results: str, over: str, target: Load, value: Expr) -> Nest:
    """target = the sum of the values, in loops i < N, j < M, c < R."""
    sizes = {"i": N, "j": M, "c": R}
    inner: Stmt = For(over, sizes[over], (Assign("acc", build.add(Local("acc", F), value)),))
    body: tuple[Stmt, ...] = (
        Let("acc", build.literal(0, F), mutable=True),
        inner,
        Store(target.buffer, target.indices, Local("acc", F)),
    )
    for letter in reversed(results):
        body = (For(letter, sizes[letter], body),)
    return Nest(("by hand",), body)


def program(*nests: Stmt, space: str = "input", iterations: int = 1) -> LoopProgram:
    """u (N, R) and v (M, R), t = `nests` of them (N, M), x (N, R); y is t and x side by side."""
    shapes = {"u": (N, R), "v": (M, R), "h": (iterations, M, R)}
    buffers = {n: Buffer(n, F, s, space if n == "v" else "input") for n, s in shapes.items()}
    buffers |= {"t": Buffer("t", F, (N, M), "state"), "x": Buffer("x", F, (N, R), "state")}
    buffers |= {"y": Buffer("y", F, (N, M + R), "output")}
    rng = np.random.default_rng(0)
    constants = {"v": rng.standard_normal(shapes["v"]).astype(F)} if space == "constant" else {}
    ins = tuple(n for n in shapes if n not in constants)
    zero = build.literal(0, F)
    begin = (
        For("i", N, (For("j", M, (Store("t", (I, J), zero),)),)),
        For("i", N, (For("c", R, (Store("x", (I, C), zero),)),)),
    )
    end = (
        For("i", N, (For("j", M, (Store("y", (I, J), at("t", I, J)),)),)),
        For("i", N, (For("c", R, (Store("y", (I, build.add(C, build.index(M))), at("x", I, C)),)),)),
    )
    return LoopProgram(buffers, constants, ins, ("y",), begin, (Step(0, iterations, nests),), end)


def answers(form: LoopProgram) -> Any:
    verify_loops(form)
    rng = np.random.default_rng(1)
    return run(form, {n: rng.standard_normal(form.buffers[n].shape).astype(F) for n in form.inputs})["y"]


def check(before: LoopProgram, least: int = 2) -> LoopProgram:
    after = pack_operands(before, lanes=4, least=least)
    np.testing.assert_array_equal(answers(plan_memory(after)), answers(before))
    return after


def copies(form: LoopProgram) -> list[str]:
    return sorted(form.buffers.keys() - {"u", "v", "h", "t", "x", "y"})


OUTER = sums("ij", "c", at("t", I, J), build.mul(at("u", I, C), at("v", J, C)))
INNER = sums("ic", "j", at("x", I, C), build.mul(at("t", I, J), at("v", J, C)))


@pytest.mark.parametrize("nest", [OUTER, INNER], ids=["results", "terms"])
def test_results_or_terms_become_neighbours(nest: Nest) -> None:
    after = check(program(nest))
    (name,) = copies(after)
    assert after.buffers[name].shape[0] == R and after.buffers[name].shape[1] >= M
    read = {
        e.buffer for top in build.expressions(after.steps[0].body[-1]) for e in build.walk(top) if isinstance(e, Load)
    }
    assert name in read and "v" not in read


def test_nests_in_one_loop_share_a_copy() -> None:
    sweep = For("b", 2, (OUTER, INNER))
    after = check(program(sweep))
    assert len(copies(after)) == 1 and len(after.steps[0].body) == 2


def test_rows_start_at_whole_lines() -> None:
    long = replace(program(OUTER), buffers={**program(OUTER).buffers, "v": Buffer("v", F, (40, R), "input")})
    after = pack_operands(long, lanes=4, least=2)
    (name,) = copies(after)
    assert after.buffers[name].shape == (R, 48)


def test_what_is_read_seldom_is_read_where_it_is() -> None:
    before = program(OUTER)
    assert pack_operands(before, lanes=4, least=N + 1) == before
    assert pack_operands(before, lanes=4, least=N) != before


def test_short_rows_need_no_vectors() -> None:
    before = program(OUTER)
    assert pack_operands(before, lanes=M + 1, least=2) == before


def test_constants_are_laid_out_by_others() -> None:
    before = program(OUTER, space="constant")
    assert pack_operands(before, lanes=4, least=2) == before


def test_what_the_loop_itself_changes_is_read_where_it_is() -> None:
    """The second run of the loop reads what the first one wrote."""
    inner = sums("ic", "j", at("x", I, C), build.mul(at("t", I, J), at("v", J, C)))
    change = Nest((), (For("j", M, (For("c", R, (Store("v", (J, C), at("x", build.ZERO, C)),)),)),))
    before = program(For("b", 2, (inner, change)))
    buffers = {**before.buffers, "v": Buffer("v", F, (M, R), "state")}
    fill = For("j", M, (For("c", R, (Store("v", (J, C), at("h", build.ZERO, J, C)),)),))
    before = replace(before, buffers=buffers, inputs=("u", "h"), begin=(*before.begin, fill))
    assert check(before) == before


def test_slices_of_a_stream_stay_where_they_are() -> None:
    """Those of later iterations may not be there yet."""
    slice_ = at("h", Var(ITERATION), J, C)
    before = program(sums("ij", "c", at("t", I, J), build.mul(at("u", I, C), slice_)), iterations=3)
    assert check(before) == before
