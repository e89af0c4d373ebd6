from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, For, Let, Load, Local, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.passes.start_sums import start_sums
from unfoldc.kernels.passes.straight_line import straight_line
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.verify import verify_loops

F = "float32"
FAR = 10**6


def written(program: LoopProgram, registers: int = 29, most: int = FAR) -> LoopProgram:
    found = straight_line(program, most, registers)
    assert found is not None
    verify_loops(found)
    return found


def loops(body: tuple[Stmt, ...]) -> list[Stmt]:
    return [s for s in build.statements(body) if isinstance(s, For)]


def stores(body: tuple[Stmt, ...], buffer: str) -> list[Store]:
    return [s for s in build.statements(body) if isinstance(s, Store) and s.buffer == buffer]


def most_alive(body: tuple[Stmt, ...]) -> int:
    """Scalars that wait for a reader at the same time."""
    row = [s for s in build.statements(body) if not isinstance(s, Nest)]
    names = [{e.name for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Local)} for s in row]
    last = {name: i for i, used in enumerate(names) for name in used}
    made = {s.name: i for i, s in enumerate(row) if isinstance(s, Let)}
    return max((sum(made[n] <= i < last[n] for n in last) for i in range(len(row))), default=0)


def test_every_model_computes_the_same(workshop: Any, solver: Any) -> None:
    _, program = load_program(workshop.saved(solver.name, 4))
    found = straight_line(start_sums(repeat_nests(lower(program))), FAR, 6)
    if found is None:  # data decides where something lies
        assert solver.name == "other_order_each_time"
        return
    verify_loops(found)
    assert not any(loops(step.body) for step in found.steps)
    rng, types = np.random.default_rng(1), program.types
    inputs = {n: rng.uniform(0.1, 1, types[n].shape).astype(types[n].dtype) for n in program.inputs}
    answers = run(plan_memory(found), dict(zip(found.inputs, inputs.values(), strict=True)))
    workshop.close([answers[n] for n in found.outputs], evaluate(program, inputs), 2e-5)


@pytest.mark.parametrize("registers", [4, 8, 29])
@pytest.mark.parametrize("transposed", [False, True])
def test_no_more_is_in_registers_than_there_are(products: Any, transposed: bool, registers: int) -> None:
    program = products.product(7, 9, transposed)
    found = written(program, registers)
    assert most_alive(found.steps[0].body) <= registers
    assert any(b.name.startswith("aside") for b in found.buffers.values()) == (registers < 8)
    np.testing.assert_allclose(products.answer(plan_memory(found)), products.answer(program), rtol=1e-5)


def test_what_is_too_long_stays(products: Any) -> None:
    program = products.product(7, 9, transposed=False)
    assert straight_line(program, 7 * 9, 29) is None
    assert straight_line(program, FAR, 29, moves=0.5) is None  # a weight is read for each product
    assert straight_line(program, FAR, 29, moves=2.0) is not None
    assert straight_line(program, FAR, 29, growth=10) is None
    assert straight_line(program, FAR, 29, growth=100) is not None


def test_places_that_data_chooses_stay() -> None:
    place = build.cast(Load("i", (build.ZERO,), "float32"), "int32")
    buffers = {"i": Buffer("i", F, (1,), "input"), "y": Buffer("y", F, (4,), "output")}
    body = (Store("y", (place,), build.literal(1, F)),)
    assert straight_line(LoopProgram(buffers, {}, ("i",), ("y",), (), (Step(0, 1, body),), ()), FAR, 29) is None


def covariance(dtype: str = F, odd: float = 0.0) -> LoopProgram:
    """P' = F P Fᵀ + diag(q), from P = I; with `odd` as P[0, 1] at first."""
    i, j, k, a = Var("i"), Var("j"), Var("k2"), Local("acc", dtype)

    def square(target: str, left: tuple[str, Var, Var], right: tuple[str, Var, Var], more: Any = None) -> Nest:
        factors = [Load(name, (x, y), dtype) for name, x, y in (left, right)]
        value = a if more is None else build.add(a, more)
        body: tuple[Stmt, ...] = (
            Let("acc", build.literal(0, dtype), mutable=True),
            For("k2", 3, (Assign("acc", build.add(a, build.mul(*factors))),)),
            Store(target, (i, j), value),
        )
        return Nest((), (For("i", 3, (For("j", 3, body),)),))

    rng = np.random.default_rng(0)
    start = np.eye(3, dtype=dtype)
    start[0, 1] = odd
    constants = {"f": rng.standard_normal((3, 3)).astype(dtype) / 2, "q": np.diag([0.1] * 3).astype(dtype), "p0": start}
    buffers = {n: Buffer(n, dtype, (3, 3), "constant") for n in constants}
    buffers |= {"x": Buffer("x", dtype, (1,), "input"), "p": Buffer("p", dtype, (3, 3), "state")}
    buffers |= {"t": Buffer("t", dtype, (3, 3), "scratch"), "out": Buffer("out", dtype, (3, 3), "output")}

    def copy(source: str, target: str) -> tuple[Stmt, ...]:
        return (For("i", 3, (For("j", 3, (Store(target, (i, j), Load(source, (i, j), dtype)),)),)),)

    step = (
        square("t", ("f", i, k), ("p", k, j)),
        square("p", ("t", i, k), ("f", j, k), Load("q", (i, j), dtype)),
    )
    scaled = build.mul(Load("p", (i, j), dtype), Load("x", (build.ZERO,), dtype))
    end = (For("i", 3, (For("j", 3, (Store("out", (i, j), scaled),)),)),)
    return LoopProgram(buffers, constants, ("x",), ("out",), copy("p0", "p"), (Step(0, 5, step),), end)


@pytest.mark.parametrize("odd", [0.0, 0.25])
def test_half_of_a_covariance_is_enough_as_long_as_it_is_symmetric(odd: float) -> None:
    program = covariance(odd=odd)
    found = written(program)
    assert len(stores(found.steps[0].body, "p")) == (9 if odd else 6)
    x = {"x": np.array([1.5], F)}
    np.testing.assert_allclose(run(plan_memory(found), x)["out"], run(program, x)["out"], rtol=1e-5)


def test_states_that_take_over_from_each_other() -> None:
    def one(name: str) -> Load:
        return Load(name, (build.ZERO,), F)

    def put(name: str, value: Any) -> Store:
        return Store(name, (build.ZERO,), value)

    buffers = {n: Buffer(n, F, (1,), "state") for n in "ab"}
    buffers |= {"t": Buffer("t", F, (1,), "scratch"), "x": Buffer("x", F, (1,), "input")}
    buffers |= {"y": Buffer("y", F, (2,), "output")}
    begin = (put("a", one("x")), put("b", build.literal(2, F)))
    step = (put("t", one("a")), put("a", one("b")), put("b", one("t")))
    end = (put("y", one("a")), Store("y", (build.index(1),), one("b")))
    program = LoopProgram(buffers, {}, ("x",), ("y",), begin, (Step(0, 3, step),), end)
    assert run(plan_memory(written(program)), {"x": np.array([7], F)})["y"].tolist() == [2, 7]
