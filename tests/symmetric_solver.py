"""A solver that multiplies with a constant matrix in each iteration, for tests of what symmetric matrices become."""

from __future__ import annotations

from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.verify import verify_loops

K = 2


def matrix(order: int, dtype: str, *lead: int) -> np.ndarray:
    half = np.random.default_rng(order).standard_normal((*lead, order, order))
    return ((half + half.swapaxes(-1, -2)) / order).astype(dtype)


def solver(w: np.ndarray, x: Expr | None = None, at: tuple[Expr, ...] = (Var("i"), Var("j"))) -> LoopProgram:
    """t = W x, z = z - t / 2 in each iteration; `x` is by default z, in which all are read."""
    dtype, n = w.dtype.name, w.shape[-1]
    acc = Local("acc", dtype)

    def load(name: str, index: str) -> Load:
        return Load(name, (Var(index),), dtype)

    term = build.mul(Load("w", at, dtype), x or load("z", "j"))
    row = (
        Let("acc", build.literal(0, dtype), True),
        For("j", n, (Assign("acc", build.add(acc, term)),)),
        Store("t", (Var("i"),), acc),
    )
    half = build.mul(load("t", "e"), build.literal(0.5, dtype))
    step = Store("z", (Var("e"),), build.sub(load("z", "e"), half))
    buffers = [
        *(Buffer(name, dtype, (n,), space) for name, space in (("y", "input"), ("z", "state"), ("t", "scratch"))),
        Buffer("w", dtype, w.shape, "constant"),
        Buffer("out", dtype, (n,), "output"),
    ]
    return LoopProgram(
        {b.name: b for b in buffers},
        {"w": w},
        ("y",),
        ("out",),
        (For("i", n, (Store("z", (Var("i"),), load("y", "i")),)),),
        (Step(0, K, (Nest(("product",), (For("i", n, row),)), Nest(("step",), (For("e", n, (step,)),)))),),
        (For("i", n, (Store("out", (Var("i"),), load("z", "i")),)),),
    )


def answer(program: LoopProgram, y: np.ndarray | None = None) -> Any:
    verify_loops(program)
    b = program.buffers["y"]
    values = np.linspace(-1, 1, b.size) if y is None else y
    return run(program, {"y": values.astype(b.dtype)})["out"]
