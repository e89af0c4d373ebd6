"""A scheduled program gives the answers of the plain one, also where a transformation must keep its hands off."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.build import add, binary, index, mul, statements
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
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.schedule_choices import default_choices


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
cases = build.load("c_cases")
F = "float32"
AT, J = Var("i"), Var("j")
ACC = Local("acc", F)
N = 9
MACHINES = {"vectors": (build.HOST, 1), "scalar": (build.M4, 1), "lanes": (build.HOST, 8)}


def load(name: str, *at: Expr) -> Load:
    return Load(name, at, F)


def row_sum(
    start: Expr, term: Expr, *after: Stmt, before: Sequence[Stmt] = (), n: int = N, inner: Sequence[Stmt] = ()
) -> For:
    """for i: acc = start; for j: acc += term; after"""
    reduction = For("j", N, (*inner, Assign("acc", add(ACC, term))))
    return For("i", n, (*before, Let("acc", start, True), reduction, *after))


def program(*body: Stmt, scratch: Sequence[Buffer] = ()) -> LoopProgram:
    rng = np.random.default_rng(2)
    buffers = [
        Buffer("W", F, (N, N), "constant"),
        Buffer("V", F, (2 * N, N), "constant"),
        Buffer("y", F, (N,), "input"),
        Buffer("x", F, (N,), "state"),
        Buffer("z", F, (2 * N,), "state"),
        Buffer("out", F, (N,), "output"),
        Buffer("long", F, (2 * N,), "output"),
        *scratch,
    ]
    constants = {"W": rng.normal(size=(N, N)).astype(F) / 4, "V": rng.normal(size=(2 * N, N)).astype(F)}
    begin = (For("i", N, (Store("x", (AT,), load("y", AT)),)), For("i", 2 * N, (Store("z", (AT,), Const(0.0, F)),)))
    end = (For("i", N, (Store("out", (AT,), load("x", AT)),)), For("i", 2 * N, (Store("long", (AT,), load("z", AT)),)))
    return LoopProgram(
        {b.name: b for b in buffers}, constants, ("y",), ("out", "long"), begin, (Step(0, 3, body),), end
    )


def agree(plain: LoopProgram, machine: str) -> LoopProgram:
    spec, lanes = MACHINES[machine]
    scheduled = schedule(plain, spec, lanes)
    y = {"y": np.random.default_rng(1).normal(size=N).astype(F)}
    want, got = run(plain, y), run(scheduled, y)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    return scheduled


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["lista32", "lista64", "peeled", "single", "channel", "overlap", "gather", "awkward"])
def test_schedules_keep_the_answers(name: str, machine: str) -> None:
    case = cases.all_cases()[name]
    spec, lanes = MACHINES[machine]
    scheduled = schedule(case.program, spec, lanes)
    for k in range(case.program.iterations + 1):
        want, got = run(case.program, case.inputs, k), run(scheduled, case.inputs, k)
        for output in want:
            np.testing.assert_allclose(got[output], want[output], rtol=1e-4, atol=1e-5, err_msg=f"{output} after {k}")


@pytest.mark.parametrize("machine", MACHINES)
def test_rows_that_read_what_rows_before_wrote_stay_in_order(machine: str) -> None:
    """Gauss-Seidel: x[i] is used by the rows that follow."""
    for place in ((AT, J), (J, AT)):
        agree(program(row_sum(Const(0.0, F), mul(load("W", *place), load("x", J)), Store("x", (AT,), ACC))), machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_scratch_element_that_all_rows_use_stays_with_its_row(machine: str) -> None:
    scratch = Buffer("t", F, (N,), "scratch")
    keep = Store("t", (J,), mul(load("W", AT, J), load("x", J)))
    loop = row_sum(Const(0.0, F), load("t", J), Store("z", (AT,), ACC), inner=[keep])
    last = For("i", N, (Store("x", (AT,), load("t", AT)),))
    agree(program(Nest((), (loop, last)), scratch=[scratch]), machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_sums_of_one_name_and_different_lengths_have_their_own_memory(machine: str) -> None:
    short = row_sum(Const(0.0, F), mul(load("W", J, AT), load("y", J)), Store("z", (AT,), ACC))
    long = row_sum(Const(0.0, F), mul(load("U", J, AT), load("y", J)), Store("z", (AT,), ACC), n=2 * N)
    plain = program(Nest((), (short,)), Nest((), (long,)))
    buffers = {**plain.buffers, "U": Buffer("U", F, (N, 2 * N), "constant")}
    constants = {**plain.constants, "U": np.ascontiguousarray(plain.constants["V"].T)}
    scheduled = agree(replace(plain, buffers=buffers, constants=constants), machine)
    if machine == "vectors":
        sizes = {b.name: b.size for b in scheduled.buffers.values() if b.space == "scratch"}
        assert sizes == {"a_acc": N, "a_acc_1": 2 * N}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_sum_may_start_from_a_scalar_of_its_row(machine: str) -> None:
    before = [Let("v", mul(load("y", AT), Const(0.3, F)))]
    then = Store("z", (AT,), add(ACC, Local("v", F)))
    agree(program(row_sum(Local("v", F), mul(load("W", J, AT), load("x", J)), then, before=before)), machine)
    inside = mul(load("W", J, AT), mul(Local("v", F), load("x", J)))
    agree(program(row_sum(Const(0.0, F), inside, then, before=before)), machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_rows_may_update_the_element_they_read(machine: str) -> None:
    """x[i] <- x[i] + (W z)[i] is blocked and swept: every row has its own element."""
    for place in ((AT, J), (J, AT)):
        half = mul(ACC, Const(0.5, F))
        update = row_sum(load("x", AT), mul(load("W", *place), load("y", J)), Store("x", (AT,), half))
        scheduled = agree(program(update), machine)
        sums = [s for s in statements(scheduled.steps[0].body) if isinstance(s, Let) and s.mutable]
        assert len(sums) > 1 or "a_acc" in scheduled.buffers


@pytest.mark.parametrize("machine", MACHINES)
def test_rows_of_two_axes_are_blocked_along_the_inner_one(machine: str) -> None:
    scratch = Buffer("t", F, (3, N), "scratch")
    at = (Var("b"), AT)
    scale = binary("add", load("x", AT), load("y", Var("b")))
    inner = row_sum(Const(0.0, F), mul(load("W", AT, J), load("x", J)), Store("t", at, mul(ACC, scale)))
    total = For("i", N, (Store("x", (AT,), add(load("t", index(0), AT), load("t", index(2), AT))),))
    agree(program(For("b", 3, (inner,)), total, scratch=[scratch]), machine)


def test_memory_that_two_parts_use_is_free_in_neither() -> None:
    """In the iteration t and u are live together, in `end` they are not."""
    t, u = (Buffer(name, F, (N,), "scratch") for name in "tu")
    step = (
        For("i", N, (Store("t", (AT,), load("x", AT)),)),
        For("i", N, (Store("u", (AT,), load("y", AT)),)),
        For("i", N, (Store("x", (AT,), add(mul(load("t", AT), Const(0.5, F)), load("u", AT))),)),
    )
    plain = program(*step, scratch=[t, u])
    end = (
        For("i", N, (Store("t", (AT,), load("x", AT)),)),
        For("i", N, (Store("out", (AT,), load("t", AT)),)),
        For("i", N, (Store("u", (AT,), load("x", AT)),)),
        For("i", N, (Store("long", (AT,), load("u", AT)),)),
        For("i", N, (Store("long", (add(AT, index(N)),), load("z", AT)),)),
    )
    plain = replace(plain, end=end)
    plan = plan_memory(plain)
    assert plan.scratch_offsets["t"] != plan.scratch_offsets["u"]
    y = {"y": np.ones(N, F)}
    np.testing.assert_array_equal(run(plan, y)["long"], run(plain, y)["long"])


def test_places_for_vectors_start_at_cache_lines() -> None:
    case = cases.overlapping_case()
    assert {offset % 64 for offset in schedule(case.program, build.HOST).scratch_offsets.values()} == {0}
    in_loops = replace(default_choices(build.M4), straight=0)
    assert schedule(case.program, build.M4, choices=in_loops).scratch_bytes == 2 * 40 * 4
