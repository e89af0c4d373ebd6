from __future__ import annotations

from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Expr, For, Load, LoopProgram, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.fuse_results import fuse_results
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.verify import verify_loops

F, N = "float32", 8


def load(name: str, *at: Expr) -> Load:
    return Load(name, at, F)


def nest(target: str, value: Expr, var: str, extent: int = N) -> Nest:
    return Nest((f"{target} ({var})",), (For(var, extent, (Store(target, (Var(var),), value),)),))


def after(products: Any, *nests: Stmt) -> LoopProgram:
    """y = tanh(W x + y), then the nests, on scratch buffers t and u."""
    program = products.product(N, 5, transposed=True)
    scratch = {name: build_buffer(name) for name in ("t", "u", "z")}
    made: LoopProgram = products.changed(program, (*program.steps[0].body, *nests), scratch)
    return made


def build_buffer(name: str) -> Any:
    from unfoldc.kernels.loops import Buffer

    return Buffer(name, F, (N,), "scratch")


def fused(products: Any, program: LoopProgram) -> LoopProgram:
    body = fuse_results(program.steps[0].body, program.buffers)
    changed: LoopProgram = products.changed(program, body, {})
    np.testing.assert_array_equal(products.answer(changed), products.answer(program))
    return changed


def test_what_follows_at_the_same_place_joins(products: Any) -> None:
    t = nest("t", build.mul(load("y", Var("a")), load("y", Var("a"))), "a")
    u = nest("u", build.add(load("t", Var("b")), load("y", Var("b"))), "b")
    y = nest("y", build.unary("abs", load("u", Var("c"))), "c")
    changed = fused(products, after(products, t, u))
    assert len(changed.steps[0].body) == 1
    verify_loops(changed)
    read = [e for s in build.statements(changed.steps[0].body) for top in build.expressions(s) for e in build.walk(top)]
    assert not [e for e in read if isinstance(e, Load) and e.buffer in ("t", "u")]
    # y is written at a second place of the program: each run still meets its own element only.
    assert len(fused(products, after(products, t, u, y)).steps[0].body) == 1


def test_what_nobody_reads_any_more_is_not_stored(products: Any) -> None:
    t = nest("t", build.mul(load("y", Var("a")), load("y", Var("a"))), "a")
    y = nest("y", build.unary("abs", load("t", Var("c"))), "c")
    stored = {s.buffer for s in build.statements(fused(products, after(products, t, y)).steps[0].body)
              if isinstance(s, Store)}  # fmt: skip
    assert stored == {"y"}
    u = nest("u", load("t", build.sub(build.index(N - 1), Var("b"))), "b")  # read elsewhere, at another place
    again = nest("y", load("u", Var("d")), "d")
    found = fused(products, after(products, t, y, u, again)).steps[0].body
    assert {s.buffer for s in build.statements(found) if isinstance(s, Store)} == {"y", "t"}


def test_nests_that_read_the_same_join_past_others(products: Any) -> None:
    """One number that both use is not worth a loop."""
    t, u = (nest(name, build.mul(load("y", Var(v)), load("z", build.ZERO)), v) for name, v in (("t", "a"), ("u", "b")))
    z = nest("z", build.literal(0.5, F), "f")
    y = nest("y", build.add(load("t", Var("c")), load("u", Var("c"))), "c")
    other = nest("z", build.literal(0.25, F), "e")
    assert len(fused(products, after(products, z, t, u, y)).steps[0].body) == 3
    assert len(fused(products, after(products, z, t, other, u, y)).steps[0].body) == 5  # u needs the other z
    number = nest("u", load("z", build.ZERO), "b")
    ends = nest("y", build.add(load("t", Var("c")), load("u", build.sub(build.index(N - 1), Var("c")))), "c")
    assert len(fused(products, after(products, z, t, number, ends)).steps[0].body) == 5


def test_another_place_or_length_does_not(products: Any) -> None:
    mirrored = nest("t", load("y", build.sub(build.index(N - 1), Var("a"))), "a")
    assert len(fused(products, after(products, mirrored)).steps[0].body) == 2
    short = nest("t", load("y", Var("a")), "a", N - 1)
    filled = nest("t", build.literal(0, F), "z")
    assert len(fused(products, after(products, filled, short)).steps[0].body) == 3


def test_what_others_still_read_is_not_overwritten(products: Any) -> None:
    """The first nest reads all of x: a second that changes it must wait."""
    t = nest("t", load("y", Var("a")), "a")
    program = after(products, t)
    (first, *rest) = program.steps[0].body

    def change(e: Expr) -> Expr | None:
        return load("u", Var("j")) if isinstance(e, Load) and e.buffer == "x" else None

    overwrite = nest("u", load("y", Var("b")), "b")
    before = nest("u", build.literal(0.5, F), "z")
    changed = products.changed(program, (before, build.map_stmt(first, change), overwrite, *rest), {})
    assert len(fused(products, changed).steps[0].body) == 3  # both that read y in one


def test_a_whole_result_is_stored_where_it_is_needed(products: Any) -> None:
    """x = f(W x): no element is stored before all have been read."""
    program = products.product(N, N, transposed=True)
    (first,) = program.steps[0].body

    def change(e: Expr) -> Expr | None:
        return load("y", Var("j")) if isinstance(e, Load) and e.buffer == "x" else None

    def elsewhere(s: Stmt) -> Stmt:
        if isinstance(s, For | Nest):
            return type(s)(**{**s.__dict__, "body": tuple(map(elsewhere, s.body))})
        return Store("t", s.indices, s.value) if isinstance(s, Store) else s

    body = (elsewhere(build.map_stmt(first, change)), nest("y", load("t", Var("c")), "c"))
    plain = products.changed(program, body, {"t": build_buffer("t")})
    for bits, spared in ((256, True), (128, True), (64, False)):
        vectors = vector_results(plain, bits, 2)
        stored = {s.buffer for s in build.statements(vectors.steps[0].body) if isinstance(s, Store)}
        assert ("t" not in stored) == spared
        np.testing.assert_allclose(products.answer(vectors), products.answer(plain), rtol=1e-5)
    assert run(plain, {"x": np.ones(N, F)})["out"].any()


def test_nests_in_a_loop_over_nests_join(products: Any) -> None:
    t = nest("t", build.mul(load("y", Var("a")), load("y", Var("a"))), "a")
    u = nest("u", build.add(load("t", Var("b")), load("y", Var("b"))), "b")
    (loop,) = fused(products, after(products, For("r", 2, (t, u)))).steps[0].body[1:]
    assert isinstance(loop, For) and len(loop.body) == 1
