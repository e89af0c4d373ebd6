"""How loops over the elements of vectors are printed in C."""

from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import Assign, Buffer, For, Let, Load, Local, LoopProgram, Step, Store, Var
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.printers.c import c_sources

F = "float32"


def program(kind: str) -> LoopProgram:
    """x = W y for 16 results side by side, in each of 2 iterations."""
    terms = build.mul(Load("w", (Var("j"), Var("l")), F), Load("y", (Var("j"),), F))
    sums = For("j", 5, (Assign("a", build.add(Local("a", F), terms)),), kind)
    product = For("l", 16, (Let("a", build.literal(0, F), True), sums, Store("s", (Var("l"),), Local("a", F))), "lanes")
    out = For("i", 16, (Store("x", (Var("i"),), Load("s", (Var("i"),), F)),))
    buffers = {
        name: Buffer(name, F, shape, space)
        for name, shape, space in (
            ("w", (5, 16), "constant"), ("y", (5,), "input"), ("s", (16,), "state"), ("x", (16,), "output"),
        )
    }  # fmt: skip
    constants = {"w": np.ones((5, 16), np.float32)}
    return plan_memory(LoopProgram(buffers, constants, ("y",), ("x",), (), (Step(0, 2, (product,)),), (out,)), 64)


@pytest.mark.parametrize("kind", ["unroll", "serial"])
def test_sums_are_marked_where_they_are_to_be_unrolled(kind: str) -> None:
    ports = [Port("y", F, (5,), True)], [Port("x", F, (16,), True)]
    sources, _ = c_sources("s", program(kind), *ports, host=False)
    lines = [line.strip() for line in sources["s.c"].splitlines()]
    assert '#define s_UNROLL _Pragma("clang loop unroll(full)")' in lines
    loop = next(i for i, line in enumerate(lines) if line.startswith("for (int32_t j"))
    assert (lines[loop - 1] == "s_UNROLL") == (kind == "unroll")
    assert lines.count("s_UNROLL") == (kind == "unroll")
    assert lines.count("s_IN_ORDER") == 1
