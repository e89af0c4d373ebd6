"""The verifier finds what a broken pass might do; every break is made on a program that is sound before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import bounds
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
    Cast,
    Const,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Select,
    Step,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.program import Node, Origin, Program, State, TensorType
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import VerificationError, verify_loops, verify_program


@pytest.fixture
def program(workshop: Any) -> Program:
    return optimise(import_onnx(workshop.saved("ista_untied", 3)).program)


def body(program: Program, **changes: Any) -> Program:
    return replace(program, segments=(replace(program.segments[0], **changes),))


def _constant(program: Program) -> str:
    return min(program.segments[0].stacked)


PROGRAMS: dict[str, tuple[Callable[[Program], Program], str]] = {
    "a node is lost": (lambda p: body(p, nodes=p.segments[0].nodes[1:]), "reads 'v4' before it is made"),
    "out of order": (lambda p: body(p, nodes=p.segments[0].nodes[::-1]), "before it is made"),
    "made twice": (lambda p: body(p, nodes=(*p.segments[0].nodes, p.segments[0].nodes[-1])), "'v11' a second time"),
    "unknown operator": (
        lambda p: body(p, nodes=(replace(p.segments[0].nodes[0], operator="Magic"), *p.segments[0].nodes[1:])),
        "has the unknown operator Magic",
    ),
    "wrong type": (lambda p: replace(p, types={**p.types, "v4": TensorType("float32", (1, 7))}), "has results"),
    "wrong attribute": (
        lambda p: replace(p, end=(Node("Transpose", p.outputs, ("t",), {"perm": [1, 0]}, Origin("t", "Transpose")),),
                          types={**p.types, "t": TensorType("float32", (1, 6))}),
        r"t \(Transpose\) has results",
    ),
    "a state from nowhere": (lambda p: replace(p, states=(State(p.states[0].name, "nothing"),)), "begin does not make"),
    "a state of another type": (lambda p: replace(p, states=(State(p.states[0].name, "y"),)), "of another type"),
    "a state from inside": (lambda p: replace(p, states=(State(p.states[0].name, "v11"),)), "begin does not make"),
    "two states of one name": (lambda p: replace(p, states=p.states * 2), "one name"),
    "carried from nowhere": (lambda p: body(p, carried={p.states[0].name: "nothing"}), "is set from 'nothing'"),
    "carried to nowhere": (lambda p: body(p, carried={"nothing": "v11"}), "state 'nothing' is set"),
    "carried of another type": (lambda p: body(p, carried={p.states[0].name: "y"}), "its next value"),
    "an iteration too few": (lambda p: body(p, count=2), "is float32"),
    "no iteration": (lambda p: body(p, count=0, stacked=frozenset()), ""),
    "a gap": (lambda p: body(p, first=1), r"iterations 1\+3 do not follow -1"),
    "not stacked": (lambda p: body(p, stacked=frozenset()), "is float32"),
    "a stacked constant in the end": (
        lambda p: replace(p, end=(Node("Neg", (_constant(p),), ("e",), {}, Origin("e", "Neg")),),
                          types={**p.types, "e": p.types[_constant(p)]}),
        r"e \(Neg\) reads '.*' before it is made",
    ),
    "a lost constant": (
        lambda p: replace(p, constants={k: v for k, v in p.constants.items() if k not in p.segments[0].stacked}),
        "are not all there",
    ),
    "a constant of another type": (
        lambda p: replace(p, constants={k: v.astype(np.float64) for k, v in p.constants.items()}), "is float64"
    ),
    "no output": (lambda p: replace(p, outputs=("nothing",)), "output 'nothing' is not made"),
    "an output from inside": (lambda p: replace(p, outputs=("v11",)), "output 'v11' is not made"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_broken_programs(program: Program, name: str) -> None:
    verify_program(program)
    change, text = PROGRAMS[name]
    with pytest.raises(VerificationError, match=f"^after the test: .*{text}"):
        verify_program(change(program), after="the test")


def test_segments_see_each_other_only_before_rolling(workshop: Any) -> None:
    unrolled = import_onnx(workshop.saved("ista_tied", 3)).program
    verify_program(unrolled)
    with pytest.raises(VerificationError, match="before it is made"):
        verify_program(replace(unrolled, rolled=True))


# -- loops -----------------------------------------------------------------------------------------------------------

F = "float32"
I = Var("i")  # noqa: E741
ONE = build.literal(1, F)


def loops(*end: Stmt, begin: tuple[Stmt, ...] = (), step: tuple[Stmt, ...] = ()) -> LoopProgram:
    buffers = (
        Buffer("x", F, (4,), "input"),
        Buffer("s", F, (4,), "state"),
        Buffer("t", F, (4,), "scratch"),
        Buffer("w", F, (3, 4), "constant"),
        Buffer("n", "int64", (2,), "constant"),
        Buffer("out", F, (4,), "output"),
    )
    constants = {"w": np.zeros((3, 4), np.float32), "n": np.array([1, 3])}
    named = {b.name: b for b in buffers}
    return LoopProgram(named, constants, ("x",), ("out",), begin, (Step(0, 3, step),), end)


def each(*inner: Stmt) -> For:
    return For("i", 4, inner)


def x(index: Any) -> Load:
    return Load("x", (index,), F)


def out(value: Any) -> For:
    return each(Store("out", (I,), value))


SOUND: list[tuple[Stmt, ...]] = [
    (out(x(I)),),
    (each(Let("a", x(I), mutable=True), Assign("a", ONE), Store("out", (I,), Local("a", F))),),
    (out(x(build.binary("mod", build.mul(I, build.index(7)), build.index(4)))),),
    (out(x(build.binary("floordiv", build.mul(I, build.index(3)), build.index(4)))),),
    (out(x(build.binary("min", build.add(I, build.index(9)), build.index(3)))),),
    (out(x(build.cast(Load("n", (build.index(1),), "int64"), "int32"))),),
    (Nest(("here",), (out(x(build.sub(build.index(3), I))),)),),
]


@pytest.mark.parametrize("end", SOUND, ids=range(len(SOUND)))
def test_sound_loops(end: tuple[Stmt, ...]) -> None:
    verify_loops(loops(*end))
    k = Load("w", (Var("k"), I), F)
    verify_loops(loops(out(ONE), begin=(each(Store("s", (I,), ONE)),), step=(each(Store("t", (I,), k)),)))


BROKEN: dict[str, tuple[tuple[Stmt, ...], str]] = {
    "past the end": ((out(x(build.add(I, build.index(1)))),), "runs from 1 to 4, its axis has 4"),
    "before the start": ((out(x(build.sub(I, build.index(1)))),), "runs from -1 to 2"),
    "store past the end": ((For("i", 5, (Store("out", (I,), ONE),)),), "runs from 0 to 4"),
    "index from data": ((out(x(build.cast(x(I), "int32"))),), "an index into 'x'"),
    "index from nowhere": ((out(x(Cast(Local("q", "int64"), "int32"))),), "scalar 'q' before its declaration"),
    "variable outside": ((out(x(Var("j"))),), "variable 'j' outside its loop"),
    "iteration number in the end": ((out(Load("w", (Var("k"), I), F)),), "variable 'k' outside its loop"),
    "too few indices": ((out(Load("w", (I,), F)),), "a read of 'w' with 1 indices"),
    "another type": ((out(Load("x", (I,), "float64")),), "as float64"),
    "no such buffer": ((out(Load("z", (I,), F)),), "a read of 'z'"),
    "store to an input": ((each(Store("x", (I,), ONE)),), "a store to 'x', which this function may not write"),
    "store to a state in the end": ((each(Store("s", (I,), ONE)),), "a store to 's'"),
    "store of another type": ((out(build.literal(1, "float64")),), "a store of float64 to 'out' of float32"),
    "scalar before its declaration": ((out(Local("a", F)),), "scalar 'a' before its declaration"),
    "scalar outside its block": ((each(Let("a", ONE)), out(Local("a", F))), "scalar 'a' before its declaration"),
    "declared twice": ((each(Let("a", ONE), Let("a", ONE)),), "scalar 'a' is declared twice"),
    "assigned a constant": ((each(Let("a", ONE), Assign("a", ONE)),), "scalar 'a' may not be set to a float32"),
    "assigned another type": (
        (each(Let("a", ONE, mutable=True), Assign("a", build.literal(1, "int64"))),),
        "scalar 'a' may not be set to a int64",
    ),
    "operands of two types": ((out(Binary("add", ONE, build.literal(1, "float64"), F)),), "of float32 and float64"),
    "comparison that is a number": ((out(Binary("lt", ONE, ONE, F)),), "'lt' of float32 and float32 to float32"),
    "unknown operator": ((out(Binary("xor", ONE, ONE, F)),), "operator 'xor'"),
    "unknown function": ((out(Unary("gamma", ONE, F)),), "operator 'gamma'"),
    "choice by a number": ((out(Select(ONE, ONE, ONE, F)),), "a choice by float32"),
    "choice of two types": ((out(Select(Const(True, "bool"), ONE, build.literal(1, "int64"), F)),), "a choice by bool"),
    "empty loop": ((For("i", 0, ()),), "loop i with extent 0"),
    "loop of no kind": ((For("i", 2, (), "spiral"),), "of kind 'spiral'"),
    "loop variable twice": ((each(each()),), "loop i"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_loops(name: str) -> None:
    end, text = BROKEN[name]
    with pytest.raises(VerificationError, match=text):
        verify_loops(loops(*end))


def test_outputs_are_written_in_the_end_only() -> None:
    for part in ({"begin": (out(ONE),)}, {"step": (out(ONE),)}):
        with pytest.raises(VerificationError, match="a store to 'out'"):
            verify_loops(loops(out(ONE), **part))


def test_slices_end_with_the_iterations() -> None:
    sound = loops(out(ONE), step=(each(Store("t", (I,), Load("w", (Var("k"), I), F))),))
    verify_loops(sound)
    with pytest.raises(VerificationError, match="runs from 0 to 3, its axis has 3"):
        verify_loops(replace(sound, steps=(replace(sound.steps[0], count=4),)))


@pytest.mark.parametrize(
    "buffer",
    [Buffer("x y", F, (1,), "input"), Buffer("b", F, (1,), "cloud"), Buffer("w", F, (9, 9), "constant")],
    ids=lambda b: b.name,
)
def test_broken_buffers(buffer: Buffer) -> None:
    sound = loops(out(ONE))
    with pytest.raises(VerificationError):
        verify_loops(replace(sound, buffers={**sound.buffers, buffer.name: buffer}))
    with pytest.raises(VerificationError):
        verify_loops(replace(sound, buffers={**sound.buffers, "other": buffer}))


def test_what_the_compiler_makes_is_sound(solver: Any, workshop: Any) -> None:
    verify_loops(lower(optimise(import_onnx(workshop.saved(solver.name, 3)).program, verify=True)))


def test_bounds() -> None:
    ranges = {"i": (0, 3), "j": (2, 5)}
    j = Var("j")
    for e, wanted in (
        (build.index(7), (7, 7)),
        (build.add(I, j), (2, 8)),
        (build.sub(I, j), (-5, 1)),
        (build.mul(build.sub(I, j), j), (-25, 5)),
        (build.binary("floordiv", build.sub(I, j), build.index(2)), (-3, 0)),
        (build.binary("mod", j, build.index(9)), (2, 5)),
        (build.binary("mod", j, build.index(4)), (0, 3)),
        (build.binary("max", I, j), (2, 5)),
        (Cast(Local("a", "int64"), "int32"), (-(2**63), 2**63 - 1)),
        (Cast(Local("a", F), "int32"), (-(2**63), 2**63 - 1)),
    ):
        assert bounds(e, ranges) == wanted
