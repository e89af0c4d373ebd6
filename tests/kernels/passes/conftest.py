"""A matrix-vector product as a loop nest, for the passes that reorder its loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.fold_constants import fold_constants
from unfoldc.kernels.passes.hoist_invariants import hoist_invariants
from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.printers.reference import iterate_outputs
from unfoldc.kernels.program import Program
from unfoldc.kernels.verify import verify_loops, verify_program

F = "float32"
I = Var("i")  # noqa: E741
J = Var("j")


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, F)


def product(rows: int, columns: int, transposed: bool, extra: bool = False) -> LoopProgram:
    """y = tanh(W x + y): the weights lie along the reduction, or along the results where `transposed`."""
    weight = at("w", J, I) if transposed else at("w", I, J)
    term = build.mul(weight, at("x", J))
    inner: tuple[Stmt, ...] = (Assign("acc", build.add(Local("acc", F), term)),)
    if extra:
        inner = (Let("p", term), Assign("acc", build.add(Local("acc", F), build.mul(Local("p", F), Local("p", F)))))
    loop = For(
        "i",
        rows,
        (
            Let("acc", build.literal(0, F), mutable=True),
            For("j", columns, inner),
            Let("v", build.add(Local("acc", F), at("y", I))),
            Store("y", (I,), build.unary("tanh", Local("v", F))),
        ),
    )
    shape = (columns, rows) if transposed else (rows, columns)
    rng = np.random.default_rng(rows * columns)
    return LoopProgram(
        {
            "x": Buffer("x", F, (columns,), "input"),
            "w": Buffer("w", F, shape, "constant"),
            "y": Buffer("y", F, (rows,), "state"),
            "out": Buffer("out", F, (rows,), "output"),
        },
        {"w": rng.standard_normal(shape).astype(F)},
        ("x",),
        ("out",),
        (For("i", rows, (Store("y", (I,), build.literal(0.1, F)),)),),
        (Step(0, 1, (Nest(("made by hand",), (loop,)),)),),
        (For("i", rows, (Store("out", (I,), at("y", I)),)),),
    )


def answer(program: LoopProgram) -> Any:
    verify_loops(program)
    columns = program.buffers["x"].size
    return run(program, {"x": np.linspace(-1, 1, columns).astype(F)})["out"]


def changed(program: LoopProgram, body: tuple[Stmt, ...], more: dict[str, Buffer]) -> LoopProgram:
    parts = {**program.__dict__, "steps": (Step(0, 1, body),), "buffers": {**program.buffers, **more}}
    return LoopProgram(**parts)


class Products:
    """The fixture `products` hands these out."""

    product, answer, changed = staticmethod(product), staticmethod(answer), staticmethod(changed)


@pytest.fixture(scope="session")
def products() -> Products:
    return Products()


class Structures:
    """For passes that replace products: the program before, and the laws that hold after."""

    @staticmethod
    def prepared(workshop: Any, model: Any) -> Program:
        """A model rolled and folded."""
        return fold_constants(roll_iterations(share_weights(workshop.imported(model).program)))

    @staticmethod
    def operators(program: Program) -> list[str]:
        """Those of the first iteration's body."""
        return [n.operator for n in program.segments[0].nodes]

    @staticmethod
    def compared(before: Program, pass_: Callable[[Program], Program], limit: float = 2e-6) -> Program:
        """The program after a pass: every iterate is the one before, in float64, and as float32 loops."""
        after = remove_dead(hoist_invariants(pass_(before)))
        verify_program(after, after=pass_.__name__)
        rng = np.random.default_rng(7)
        types = [before.types[name] for name in before.inputs]
        inputs = {n: rng.standard_normal(t.shape).astype(t.dtype) for n, t in zip(before.inputs, types, strict=True)}
        loops = lower(after)
        verify_loops(loops)
        rounded = run(loops, dict(zip(loops.inputs, inputs.values(), strict=True)))
        wanted = iterate_outputs(before, inputs)
        for found, expected in zip(iterate_outputs(after, inputs), wanted, strict=True):
            for f, w in zip(found, expected, strict=True):
                assert np.linalg.norm(f - w) <= limit * np.linalg.norm(w)
        for name, w in zip(loops.outputs, wanted[-1], strict=True):
            assert np.linalg.norm(rounded[name] - w) <= 1e-5 * np.linalg.norm(w)
        return after


@pytest.fixture(scope="session")
def structures() -> Structures:
    return Structures()
