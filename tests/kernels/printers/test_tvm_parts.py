"""How bodies are cut for TVM, and what the text of its vectors says; nothing is compiled."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import (
    Assign,
    Buffer,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.printers.tvm import IN_ORDER, tvm_sources
from unfoldc.kernels.printers.tvm.parts import Part, Repeated, parts_of

F = "float32"


def lanes(at: Any = None) -> For:
    """Sixteen results: x = root of y."""
    at = at or Var("l")
    return For("l", 16, (Store("x", (at,), Unary("sqrt", Load("y", (at,), F), F)),), "lanes")


def total(count: int, name: str = "a") -> Nest:
    """The sum of the first elements of y."""
    grown = build.add(Local(name, F), Load("y", (Var("j"),), F))
    terms = For("j", count, (Assign(name, grown),))
    return Nest((), (Let(name, build.literal(0, F), True), terms, Store("t", (build.ZERO,), Local(name, F))))


def sources(body: tuple[Stmt, ...], bits: int = 512, kind: str = "input") -> dict[str, str]:
    buffers = {n: Buffer(n, F, (64,), s) for n, s in (("y", kind), ("x", "state"), ("t", "state"), ("o", "output"))}
    copy = For("i", 64, (Store("o", (Var("i"),), Load("x", (Var("i"),), F)),))
    program = plan_memory(LoopProgram(buffers, {}, ("y",), ("o",), (), (Step(0, 2, body),), (copy,)), 64)
    ports = [Port("y", F, (64,), True)], [Port("o", F, (64,), True)]
    return tvm_sources("s", program, *ports, host=True, vector_bits=bits)[0]


@pytest.mark.parametrize(
    ("body", "orders"),
    [
        ((lanes(),), [True]),
        ((total(8),), [False]),
        ((total(7), lanes(), total(7)), [True]),  # so few terms are not worth a function
        ((lanes(), total(8), lanes()), [True, False, True]),
        ((Nest(("a (Add)",), (total(8), lanes())),), [False, True]),
        ((Let("c", build.literal(1, F)), total(8), lanes()), [True]),  # a scalar that no function hands over
        ((), []),
    ],
)
def test_where_sums_are_in_order_and_where_not(body: tuple[Stmt, ...], orders: list[bool]) -> None:
    assert [part.in_order for part in parts_of(body) if isinstance(part, Part)] == orders


def test_a_loop_with_both_calls_a_function_for_each() -> None:
    row = build.add(build.mul(Var("r"), build.index(16)), Var("l"))
    loop = For("r", 4, (lanes(row), total(8)))
    (part,) = parts_of((loop,))
    assert isinstance(part, Repeated) and [p.in_order for p in part.parts if isinstance(p, Part)] == [True, False]
    text = sources((loop,))
    calls = re.search(r"for \(int32_t r = 0; r < 4; r\+\+\) \{\n(.*)\n(.*)\n *\}", text["s.c"])
    assert calls and "s_tir_iterate_0_part_0(" in calls[1] and calls[1].endswith("s->k, r);")
    assert "s_tir_iterate_0_part_1(" in calls[2]
    functions = text["s.tir"].split("@T.prim_func")
    ordered = [IN_ORDER in f for f in functions if "iterate" in f]
    assert ordered == [True, False]


def test_vectors_are_read_and_written_at_once() -> None:
    script = sources((lanes(),))["s.tir"]
    assert "x[T.Ramp(0, 1, 16)] = T.sqrt(y[T.Ramp(0, 1, 16)])" in script


@pytest.mark.parametrize(("rows", "bits", "estimated"), [(4, 512, True), (4, 256, False), (1, 512, False)])
def test_roots_of_many_vectors_are_estimated(rows: int, bits: int, estimated: bool) -> None:
    row = build.add(build.mul(Var("r"), build.index(16)), Var("l"))
    body: Stmt = For("r", rows, (lanes(row),)) if rows > 1 else lanes()
    assert ("rsqrt14" in sources((body,), bits)["s.tir"]) == estimated


def test_scalars_that_are_reused_keep_what_they_are() -> None:
    """A name that is a vector in one loop and a number in the next."""
    inside = For("l", 16, (Let("v", Load("y", (Var("l"),), F)), Store("x", (Var("l"),), Local("v", F))), "lanes")
    after = Nest((), (Let("v", Load("y", (build.ZERO,), F)), Store("t", (build.ZERO,), Local("v", F))))
    script = sources((inside, after, inside))["s.tir"]
    assert len(re.findall(r'v_* = T.alloc_local\(\(1,\), "float32x16"\)', script)) == 2
    assert re.search(r"v_*: T.let\[T.float32\] = y\[0\]", script)
    assert np.array_equal(re.findall(r"t\[0\] = (.*)", script), [re.findall(r"(v_*): T.let", script)[0]])
