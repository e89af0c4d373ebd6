from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Buffer,
    Const,
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
from unfoldc.kernels.passes.chain_sums import chain_sums
from unfoldc.kernels.verify import verify_loops

D = "float64"
ZERO = Const(0.0, D)
AT, A, B, H = Var("i"), Local("a", D), Local("b", D), Load("h", (Var("i"),), D)


def load(name: str, *at: str) -> Load:
    return Load(name, tuple(Var(n) for n in at), D)


def total(name: str, matrix: str, vector: str, terms: int, operator: str = "add", start: Expr = ZERO) -> list[Stmt]:
    index = f"j_{name}"
    term = build.mul(load(matrix, "i", index), load(vector, index))
    body = Assign(name, build.binary(operator, Local(name, D), term))
    return [Let(name, start, True), For(index, terms, (body,))]


def solver(*body: Stmt) -> LoopProgram:
    """Results made of sums a = W x of 5 terms and b = V u of 3."""
    shapes = {"w": (4, 5), "v": (4, 3), "x": (5,), "u": (3,), "h": (4,)}
    buffers = {n: Buffer(n, D, s, "input") for n, s in shapes.items()}
    buffers |= {n: Buffer(n, D, (4,), "output") for n in ("y", "z")}
    sums = (*total("a", "w", "x", 5), *total("b", "v", "u", 3))
    other = () if any(isinstance(s, Store) and s.buffer == "z" for s in body) else (Store("z", (AT,), H),)
    end = (Nest(("sums",), (For("i", 4, (*sums, *body, *other)),)),)
    return LoopProgram(buffers, {}, tuple(shapes), ("y", "z"), (), (Step(0, 1, ()),), end)


def answers(program: LoopProgram) -> list[np.ndarray]:
    verify_loops(program)
    rng = np.random.default_rng(2)
    found = run(program, {n: rng.standard_normal(program.buffers[n].shape) for n in program.inputs})
    return [np.asarray(found[n]) for n in program.outputs]


def sums(program: LoopProgram) -> int:
    return sum(isinstance(s, Let) and s.mutable for s in build.statements(program.end))


def y(value: Expr) -> Store:
    return Store("y", (AT,), value)


CHAINS: dict[str, tuple[Stmt, ...]] = {
    "added": (y(build.add(A, B)),),
    "taken": (y(build.sub(A, B)),),
    "the first taken": (y(build.sub(B, A)),),
    "both taken": (y(build.sub(build.sub(H, A), B)),),
    "nothing is added": (y(build.sub(build.unary("neg", H), build.sub(A, B))),),
    "another number between": (y(build.add(build.sub(A, H), B)),),
    "by a name": (Let("v", build.sub(A, H)), Let("d", build.add(Local("v", D), B)),
                  y(build.mul(Local("d", D), Local("d", D)))),
    "by a name used once": (Let("v", build.sub(B, H)), y(build.mul(H, build.sub(A, Local("v", D))))),
}  # fmt: skip
"""What is made of two sums that may become one."""

APART: dict[str, tuple[Stmt, ...]] = {
    "a product": (y(build.mul(A, B)),),
    "used twice": (y(build.add(A, B)), Store("z", (AT,), A)),
    "apart": (y(A), Store("z", (AT,), B)),
    "changed between": (Let("v", build.sub(A, load("z", "i"))), Store("z", (AT,), H), y(build.add(Local("v", D), B))),
}
"""What is not, or would read what was changed meanwhile."""


@pytest.mark.parametrize("name", CHAINS)
def test_two_sums_become_one(name: str) -> None:
    program = solver(*CHAINS[name])
    changed = chain_sums(program)
    assert sums(program) == 2 and sums(changed) == 1
    for found, wanted in zip(answers(changed), answers(program), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", APART)
def test_others_stay(name: str) -> None:
    program = solver(*APART[name])
    assert chain_sums(program) == program


def test_of_three_sums_two_become_one() -> None:
    third = total("c", "w", "h", 4, "sub")
    program = solver(*third, y(build.sub(build.add(A, Local("c", D)), B)))
    changed = chain_sums(program)
    assert sums(changed) == 2
    np.testing.assert_allclose(answers(changed)[0], answers(program)[0], rtol=1e-12)


def test_a_sum_that_starts_with_a_number_stays() -> None:
    first = total("a", "w", "x", 5, start=H)
    whole = (*first, *total("b", "v", "u", 3), y(build.add(A, B)), Store("z", (AT,), H))
    program = solver(y(A))
    program = LoopProgram(
        program.buffers, {}, program.inputs, program.outputs, (), program.steps, (Nest((), (For("i", 4, whole),)),)
    )
    assert chain_sums(program) == program
