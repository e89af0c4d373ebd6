"""Checks of the two representations: what every pass may rely on, stated once per stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unfoldc.kernels.build import walk
from unfoldc.kernels.loops import (
    BINARY_OPERATORS,
    ITERATION,
    LOOP_KINDS,
    SPACES,
    UNARY_OPERATORS,
    Assign,
    Binary,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.operators import OPERATORS, result_types
from unfoldc.kernels.program import Node, Program


class VerificationError(ValueError):
    """A pass produced something that is not a program: a mistake in the compiler, never in the user's file."""


def verify_program(program: Program, after: str = "import") -> None:
    """Checks a program. Before rolling a segment may read earlier ones; afterwards it sees `begin` and states only."""

    def fail(text: str) -> None:
        raise VerificationError(f"after {after}: {text}")

    known = set(program.inputs) | {n for n, _ in program.constants.items()}
    _verify_nodes(program, program.begin, known, fail_after=after)
    outside = known | {o for n in program.begin for o in n.outputs}
    for slot in program.states:
        if slot.initial not in outside:
            fail(f"state {slot.name!r} starts from {slot.initial!r}, which begin does not make")
        if program.types[slot.initial] != program.types[slot.name]:
            fail(f"state {slot.name!r} starts from a value of another type")
    states = {s.name for s in program.states}
    expected = 0
    visible = outside | states
    for segment in program.segments:
        if segment.first != expected or segment.count < 1:
            fail(f"segment {segment.first}+{segment.count} does not follow iteration {expected}")
        expected += segment.count
        for name in segment.stacked:
            if program.constants[name].shape != (segment.count, *program.types[name].shape):
                fail(f"stacked constant {name!r} has {program.constants[name].shape[:1]} slices for {segment.count}")
        _verify_nodes(program, segment.nodes, visible, fail_after=after)
        made = {o for n in segment.nodes for o in n.outputs}
        for state, value in segment.carried.items():
            if state not in states or value not in made | visible:
                fail(f"state {state!r} is set from {value!r}, which is not there")
            if program.types[state] != program.types[value]:
                fail(f"state {state!r} is {program.types[state]}, its next value {program.types[value]}")
        if not program.rolled:
            visible = visible | made
    _verify_nodes(program, program.end, visible, fail_after=after)
    made = visible | {o for n in program.end for o in n.outputs}
    for name in program.outputs:
        if name not in made:
            fail(f"output {name!r} is not made")


def _verify_nodes(program: Program, nodes: Sequence[Node], known: set[str], fail_after: str) -> None:
    seen = set(known)
    for node in nodes:
        if node.operator not in OPERATORS:
            raise VerificationError(f"after {fail_after}: {node.origin} has the unknown operator {node.operator}")
        for name in node.inputs:
            if name and name not in seen:
                raise VerificationError(f"after {fail_after}: {node.origin} reads {name!r} before it is made")
        for name in node.outputs:
            if name in seen:
                raise VerificationError(f"after {fail_after}: {node.origin} makes {name!r} a second time")
        _verify_types(program, node, fail_after)
        seen.update(node.outputs)


def _verify_types(program: Program, node: Node, fail_after: str) -> None:
    types = [program.types[i] if i else None for i in node.inputs]
    stacked = {name for s in program.segments for name in s.stacked}
    known = [program.constants.get(i) if i not in stacked else None for i in node.inputs]
    if any(known[p] is None for p in OPERATORS[node.operator].constant_inputs if p < len(known) and node.inputs[p]):
        return  # a stacked index: its slices have one type, but no single value
    found = result_types(OPERATORS[node.operator], node.attributes, types, known)
    expected = tuple(program.types[o] for o in node.outputs)
    if found[: len(expected)] != expected:
        raise VerificationError(f"after {fail_after}: {node.origin} has results {expected}, by its inputs {found}")


def verify_loops(program: LoopProgram) -> None:
    """Checks the loop level: declared names, index counts, bounds of affine indices, spaces that may be written."""
    for name, buffer in program.buffers.items():
        if buffer.space not in SPACES or not name.isidentifier() or name != buffer.name:
            raise VerificationError(f"buffer {name!r} in space {buffer.space!r}")
        if buffer.space == "constant" and program.constants[name].shape != buffer.shape:
            raise VerificationError(f"constant {name!r} has shape {program.constants[name].shape}, not {buffer.shape}")
    _verify_body(program, program.begin, {}, {}, ("state", "scratch"))
    for step in program.steps:
        _verify_body(
            program, step.body, {ITERATION: (step.first, step.first + step.count - 1)}, {}, ("state", "scratch")
        )
    _verify_body(program, program.end, {}, {}, ("output", "scratch"))


_Ranges = Mapping[str, tuple[int, int]]


def _verify_body(
    program: LoopProgram, body: Sequence[Stmt], ranges: _Ranges, names: Mapping[str, bool], writable: tuple[str, ...]
) -> None:
    names = dict(names)
    for s in body:
        if isinstance(s, Nest):
            _verify_body(program, s.body, ranges, names, writable)
        elif isinstance(s, For):
            if s.extent < 1 or s.kind not in LOOP_KINDS or s.var in ranges:
                raise VerificationError(f"loop {s.var} with extent {s.extent} of kind {s.kind!r}")
            _verify_body(program, s.body, {**ranges, s.var: (0, s.extent - 1)}, names, writable)
        elif isinstance(s, Let):
            _verify_expr(program, s.value, ranges, names)
            if s.name in names:
                raise VerificationError(f"scalar {s.name!r} is declared twice")
            names[s.name] = s.mutable
        elif isinstance(s, Assign):
            _verify_expr(program, s.value, ranges, names)
            if not names.get(s.name):
                raise VerificationError(f"scalar {s.name!r} is assigned but is not mutable")
        else:
            _verify_store(program, s, ranges, names, writable)


def _verify_store(
    program: LoopProgram, s: Store, ranges: _Ranges, names: Mapping[str, bool], writable: tuple[str, ...]
) -> None:
    if s.buffer not in program.buffers or program.buffers[s.buffer].space not in writable:
        raise VerificationError(f"a store to {s.buffer!r}, which this function may not write")
    _verify_expr(program, Load(s.buffer, s.indices, program.buffers[s.buffer].dtype), ranges, names)
    _verify_expr(program, s.value, ranges, names)
    if s.value.dtype != program.buffers[s.buffer].dtype:
        raise VerificationError(f"a store of {s.value.dtype} to {s.buffer!r} of {program.buffers[s.buffer].dtype}")


def _verify_expr(program: LoopProgram, e: Expr, ranges: _Ranges, names: Mapping[str, bool]) -> None:
    for x in walk(e):
        if isinstance(x, Var) and x.name not in ranges:
            raise VerificationError(f"variable {x.name!r} outside its loop")
        if isinstance(x, Local) and x.name not in names:
            raise VerificationError(f"scalar {x.name!r} before its declaration")
        if isinstance(x, Binary) and x.operator not in BINARY_OPERATORS:
            raise VerificationError(f"operator {x.operator!r}")
        if isinstance(x, Unary) and x.operator not in UNARY_OPERATORS:
            raise VerificationError(f"operator {x.operator!r}")
        if isinstance(x, Load):
            buffer = program.buffers.get(x.buffer)
            if buffer is None or len(x.indices) != len(buffer.shape) or x.dtype != buffer.dtype:
                raise VerificationError(f"a read of {x.buffer!r} with {len(x.indices)} indices as {x.dtype}")
            for index, n in zip(x.indices, buffer.shape, strict=True):
                low, high = bounds(index, ranges)
                if low < 0 or high >= n:
                    raise VerificationError(f"an index into {x.buffer!r} runs from {low} to {high}, its axis has {n}")


def bounds(e: Expr, ranges: _Ranges) -> tuple[int, int]:
    """Least and greatest value of an index; (0, 0) for one that depends on data, which only the run can check."""
    from unfoldc.kernels.loops import Const

    if isinstance(e, Const):
        return int(e.value), int(e.value)
    if isinstance(e, Var):
        return ranges[e.name]
    if isinstance(e, Binary):
        (a, b), (c, d) = bounds(e.a, ranges), bounds(e.b, ranges)
        if e.operator == "add":
            return a + c, b + d
        if e.operator == "sub":
            return a - d, b - c
        if e.operator == "mul":
            products = [a * c, a * d, b * c, b * d]
            return min(products), max(products)
        if e.operator == "floordiv" and c == d > 0:
            return a // c, b // c
        if e.operator == "mod" and c == d > 0:
            return (a, b) if a >= 0 and b < c else (0, c - 1)
        if e.operator == "min":
            return min(a, c), min(b, d)
        if e.operator == "max":
            return max(a, c), max(b, d)
    return 0, 0
