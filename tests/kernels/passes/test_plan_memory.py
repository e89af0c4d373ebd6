from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Stmt, Store, Var
from unfoldc.kernels.passes.plan_memory import plan_memory

F = "float32"
I = Var("i")  # noqa: E741


def chain(sizes: Sequence[int], dtypes: Sequence[str] = ()) -> LoopProgram:
    """Each scratch buffer is made from the one before it, and then read no more."""
    types = dict(enumerate(dtypes)) | {i: F for i in range(len(dtypes), len(sizes))}
    scratch = {f"t{i}": Buffer(f"t{i}", types[i], (n,), "scratch") for i, n in enumerate(sizes)}
    body: list[Stmt] = []
    for i, n in enumerate(sizes):
        value: Expr = Load(f"t{i - 1}", (build.ZERO,), types[i - 1]) if i else build.literal(1, types[0])
        body.append(For(f"i{i}", n, (Store(f"t{i}", (Var(f"i{i}"),), build.cast(value, types[i])),)))
    last = Load(f"t{len(sizes) - 1}", (build.ZERO,), types[len(sizes) - 1])
    body.append(Store("out", (build.ZERO,), build.cast(last, F)))
    return LoopProgram({"out": Buffer("out", F, (1,), "output"), **scratch}, {}, (), ("out",), (), (), tuple(body))


def test_a_chain_needs_two_places() -> None:
    plan = plan_memory(chain([10, 10, 10, 10, 10]))
    assert plan.scratch_bytes == 80
    assert run(plan, {})["out"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_live_buffers_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 40, 12)]
    dtypes = [str(d) for d in rng.choice(["float32", "float64", "bool", "int64"], 12)]
    plan = plan_memory(chain(sizes, dtypes))
    for i in range(11):
        a, b = (plan.buffers[f"t{k}"] for k in (i, i + 1))
        (p, q) = (plan.scratch_offsets[x.name] for x in (a, b))
        assert p + a.nbytes <= q or q + b.nbytes <= p
    for name, offset in plan.scratch_offsets.items():
        buffer = plan.buffers[name]
        assert offset % np.dtype(buffer.dtype).itemsize == 0
        assert offset + buffer.nbytes <= plan.scratch_bytes
    assert run(plan, {})["out"] == 1


def test_parts_share_the_arena_and_unused_buffers_go() -> None:
    program = chain([6, 6])
    both = LoopProgram(
        {**program.buffers, "s0": Buffer("s0", F, (9,), "scratch"), "idle": Buffer("idle", F, (99,), "scratch")},
        {},
        (),
        ("out",),
        (For("i", 9, (Store("s0", (I,), build.literal(0, F)),)),),
        (),
        program.end,
    )
    plan = plan_memory(both)
    assert plan.scratch_bytes == 48
    assert "idle" not in plan.buffers
