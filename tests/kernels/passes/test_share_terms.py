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
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.chain_sums import chain_sums
from unfoldc.kernels.passes.share_terms import share_terms
from unfoldc.kernels.passes.tile_results import tile_results
from unfoldc.kernels.verify import verify_loops

D = "float64"
ZERO = Const(0.0, D)
SHAPES = {"hr": (4, 5), "hi": (4, 5), "xr": (5, 6), "xi": (5, 6), "g": (4, 5), "short": (4, 3)}


def load(name: str, *at: str) -> Load:
    return Load(name, tuple(Var(n) for n in at), D)


def total(name: str, a: str, b: str, terms: int = 5, place: str = "i c") -> list[Stmt]:
    """name = sum over j of a[i, j] b[j, c]."""
    i, c = place.split()
    j = f"j_{name}"
    product = build.mul(load(a, i, j), load(b, j, c))
    return [Let(name, ZERO, True), For(j, terms, (Assign(name, build.add(Local(name, D), product)),))]


def store(name: str, value: Expr, place: str = "i c") -> Store:
    i, c = place.split()
    return Store(name, (Var(i), Var(c)), value)


def nest(*body: Stmt, place: str = "i c") -> Nest:
    i, c = place.split()
    return Nest((i,), (For(i, 4, (For(c, 6, body),)),))


def local(name: str) -> Local:
    return Local(name, D)


def solver(*end: Stmt) -> LoopProgram:
    buffers = {n: Buffer(n, D, s, "input") for n, s in SHAPES.items()}
    buffers |= {n: Buffer(n, D, (4, 6), "output") for n in ("yr", "yi")}
    fill = tuple(nest(store(n, ZERO, f"f_{n} e_{n}"), place=f"f_{n} e_{n}") for n in ("yr", "yi"))
    return LoopProgram(buffers, {}, tuple(SHAPES), ("yr", "yi"), (), (Step(0, 1, ()),), (*fill, *end))


COMPLEX = (
    nest(*total("a", "hr", "xr"), *total("b", "hi", "xi"), store("yr", build.sub(local("a"), local("b")))),
    nest(
        *total("p", "hr", "xi", place="m n"),
        *total("q", "hi", "xr", place="m n"),
        store("yi", build.add(local("p"), local("q")), "m n"),
        place="m n",
    ),
)


def answers(program: LoopProgram) -> list[np.ndarray]:
    verify_loops(program)
    rng = np.random.default_rng(2)
    found = run(program, {n: rng.standard_normal(program.buffers[n].shape) for n in program.inputs})
    return [np.asarray(found[n]) for n in program.outputs]


def same(changed: LoopProgram, program: LoopProgram) -> None:
    for found, wanted in zip(answers(changed), answers(program), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def loops(program: LoopProgram) -> list[For]:
    """The loops over terms."""
    return [s for s in build.statements(program.end) if isinstance(s, For) and s.var.startswith("j")]


def test_a_complex_product_is_one_loop_that_loads_each_part_once() -> None:
    program = solver(*COMPLEX)
    changed = share_terms(chain_sums(program))
    same(changed, program)
    (loop,) = loops(changed)
    loads = [e for s in loop.body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)]
    assert sorted(e.buffer for e in loads) == ["hi", "hr", "xi", "xr"]
    assert sum(isinstance(s, Assign) for s in loop.body) == 4


def test_its_results_are_taken_in_tiles() -> None:
    program = solver(*COMPLEX)
    changed = share_terms(chain_sums(program)).mapped(lambda body: block_rows(tile_results(body, 2), 3))
    same(changed, program)
    (loop,) = loops(changed)
    assert len({s.name for s in loop.body if isinstance(s, Assign)}) == 2 * 3 * 2


def test_two_products_with_the_same_matrix_in_one_nest() -> None:
    program = solver(
        nest(*total("a", "hr", "xr"), store("yr", local("a")), *total("b", "g", "xr"), store("yi", local("b")))
    )
    changed = share_terms(program)
    same(changed, program)
    assert len(loops(changed)) == 1 and len(loops(program)) == 2


APART: dict[str, tuple[Stmt, ...]] = {
    "no terms in common": (nest(*total("a", "hr", "xr"), *total("b", "hi", "xi"),
                                store("yr", build.mul(local("a"), local("b")))),),
    "not as many": (nest(*total("a", "hr", "xr"), *total("b", "short", "xr", 3),
                         store("yr", build.mul(local("a"), local("b")))),),
    "three sums": (nest(*total("a", "hr", "xr"), *total("b", "g", "xi"),
                        store("yr", build.mul(local("a"), local("b")))),
                   nest(*total("p", "hr", "xr", place="m n"), store("yi", local("p"), "m n"), place="m n")),
    "a name of both": (nest(*total("a", "hr", "xr"), store("yr", local("a"))),
                       nest(*total("a", "hr", "xi", place="m n"), store("yi", local("a"), "m n"), place="m n")),
    "the second needs the first": (nest(*total("a", "hr", "xr"), store("yr", local("a"))),
                                   nest(Let("b", ZERO, True),
                                        For("j_b", 5, (Assign("b", build.add(local("b"), build.mul(
                                            load("hr", "m", "j_b"), Load("yr", (build.index(3), Var("j_b")), D)))),)),
                                        store("yi", local("b"), "m n"), place="m n")),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_others_stay(name: str) -> None:
    program = solver(*APART[name])
    assert share_terms(program).end == program.end


def test_a_sum_that_starts_with_another_one_stays_behind_it() -> None:
    first, second = total("a", "hr", "xr"), total("b", "g", "xr")
    second[0] = Let("b", local("a"), True)
    program = solver(nest(*first, *second, store("yr", local("b"))))
    assert share_terms(program).end == program.end


def test_a_sum_over_what_was_stored_stays_behind_the_store() -> None:
    term = build.mul(load("hr", "i", "j_b"), Load("yr", (Var("i"), Var("j_b")), D))
    second = (Let("b", ZERO, True), For("j_b", 5, (Assign("b", build.add(local("b"), term)),)))
    program = solver(nest(*total("a", "hr", "xr"), store("yr", local("a")), *second, store("yi", local("b"))))
    assert share_terms(program).end == program.end
