"""Blocks of sums share one loop and come to the same, for every size of the blocks and of what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, For, Let, Load, Local, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.passes.block_dots import block_dots
from unfoldc.kernels.verify import verify_loops

F = "float32"
I, J, C = Var("i"), Var("j"), Var("c")  # noqa: E741
LONG = 7


def products(rows: int, columns: int, space: str = "input", transposed: bool = False) -> LoopProgram:
    """x = x0 + T Vᵀ, with T (rows, LONG) and V (columns, LONG), or V's transpose."""
    v = Load("v", (J, C) if transposed else (C, J), F)
    term = build.mul(Load("t", (I, J), F), v)
    body = (
        Let("acc", build.literal(0, F), mutable=True),
        For("j", LONG, (Assign("acc", build.add(Local("acc", F), term)),)),
        Store("x", (I, C), build.add(Load("x", (I, C), F), Local("acc", F))),
    )
    shape = (LONG, columns) if transposed else (columns, LONG)
    buffers = {
        "t": Buffer("t", F, (rows, LONG), "input"),
        "v": Buffer("v", F, shape, space),
        "x": Buffer("x", F, (rows, columns), "state"),
        "y": Buffer("y", F, (rows, columns), "output"),
    }
    constants = {"v": np.ones(shape, F)} if space == "constant" else {}

    def each(store: Store) -> tuple[For, ...]:
        return (For("i", rows, (For("c", columns, (store,)),)),)

    begin = each(Store("x", (I, C), build.literal(0.5, F)))
    end = each(Store("y", (I, C), Load("x", (I, C), F)))
    nest = Nest(("by hand",), (For("i", rows, (For("c", columns, body),)),))
    ins = ("t",) if constants else ("t", "v")
    return LoopProgram(buffers, constants, ins, ("y",), begin, (Step(0, 2, (nest,)),), end)


def answers(program: LoopProgram, special: bool) -> np.ndarray:
    verify_loops(program)
    rng = np.random.default_rng(3)
    inputs = {n: rng.standard_normal(program.buffers[n].shape).astype(F) for n in program.inputs}
    if special:
        inputs["t"].flat[0] = np.nan
    return run(program, inputs)["y"]


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 8, 9])
@pytest.mark.parametrize("columns", [1, 2, 5, 6, 7, 13])
def test_blocks_come_to_the_same(rows: int, columns: int) -> None:
    program = products(rows, columns)
    blocked = block_dots(program, sums=10, shortest=4)
    for special in (False, True):
        np.testing.assert_array_equal(answers(blocked, special), answers(program, special))


def test_as_many_sums_as_allowed_share_a_loop() -> None:
    blocked = block_dots(products(8, 5), sums=20, shortest=4)
    loops = [s for s in build.statements(blocked.steps[0].body) if isinstance(s, For)]
    assert [(s.var, s.extent) for s in loops] == [("i_b", 2), ("j", LONG)]
    assert sum(isinstance(s, Assign) for s in loops[-1].body) == 20


def test_other_sums_stay() -> None:
    """Too short ones, those over what lies apart, constants, and rows that depend on each other."""
    for program in (products(8, 5, transposed=True), products(8, 5, space="constant")):
        assert block_dots(program, sums=20, shortest=4) == program
    program = products(8, 5)
    assert block_dots(program, sums=20, shortest=LONG + 1) == program
    (nest,) = program.steps[0].body
    first = build.map_stmt(
        nest, lambda e: Load("x", (build.ZERO, C), F) if isinstance(e, Load) and e.buffer == "x" else None
    )
    program = replace(program, steps=(Step(0, 2, (first,)),))
    assert block_dots(program, sums=20, shortest=4) == program
