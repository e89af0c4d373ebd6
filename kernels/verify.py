"""Checks of the two representations: what every pass may rely on, stated once per stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unfoldc.kernels.build import walk
from unfoldc.kernels.index_bounds import Ranges, bounds, loop_range
from unfoldc.kernels.loops import (
    BINARY_OPERATORS,
    COMPARISONS,
    ITERATION,
    LOOP_KINDS,
    SPACES,
    UNARY_OPERATORS,
    Assign,
    Binary,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.operators import OPERATORS, result_types
from unfoldc.kernels.program import Node, Program, Segment, TensorType


class VerificationError(ValueError):
    """A pass produced something that is not a program: a mistake in the compiler, never in the user's file."""


def verify_program(program: Program, after: str = "import") -> None:
    """Checks a program. Before rolling a segment may read earlier ones; afterwards it sees `begin` and states only."""
    try:
        _ProgramCheck(program).run()
    except VerificationError as error:
        raise VerificationError(f"after {after}: {error}") from None


@dataclass(frozen=True)
class _ProgramCheck:
    program: Program

    def run(self) -> None:
        program = self.program
        stacked = self.constants()
        known = {*program.inputs, *program.constants} - stacked
        outside = known | self.nodes(program.begin, known, frozenset())
        for state in program.states:
            if state.initial not in outside:
                raise VerificationError(
                    f"state {state.name!r} starts from {state.initial!r}, which begin does not make"
                )
            if program.types[state.initial] != program.types[state.name]:
                raise VerificationError(f"state {state.name!r} starts from a value of another type")
        states = {s.name for s in program.states}
        if len(states) < len(program.states) or states & outside:
            raise VerificationError("two states or values have one name")
        visible = outside | states
        expected = 0
        for segment in program.segments:
            if segment.first != expected or segment.count < 1:
                raise VerificationError(f"iterations {segment.first}+{segment.count} do not follow {expected - 1}")
            expected += segment.count
            made = self.nodes(segment.nodes, visible | segment.stacked, segment.stacked)
            self.carried(segment, states, made | visible | segment.stacked)
            if not program.rolled:
                visible = visible | made
        made = visible | self.nodes(program.end, visible, frozenset())
        for name in program.outputs:
            if name not in made:
                raise VerificationError(f"output {name!r} is not made")

    def constants(self) -> set[str]:
        """Checks the constants against their types; returns the stacked ones."""
        program = self.program
        counts = {name: segment.count for segment in program.segments for name in segment.stacked}
        for name, value in program.constants.items():
            t = program.types[name]
            shape = (counts[name], *t.shape) if name in counts else t.shape
            if TensorType(str(value.dtype), value.shape) != TensorType(t.dtype, shape):
                found = f"constant {name!r} is {value.dtype}{list(value.shape)}"
                raise VerificationError(f"{found}, not {t.dtype}{list(shape)}")
        if not counts.keys() <= program.constants.keys():
            raise VerificationError(f"the stacked constants {sorted(counts)} are not all there")
        return set(counts)

    def carried(self, segment: Segment, states: Collection[str], there: Collection[str]) -> None:
        """Checks what the states hold after an iteration."""
        types = self.program.types
        for state, value in segment.carried.items():
            if state not in states or value not in there:
                raise VerificationError(f"state {state!r} is set from {value!r}, which is not there")
            if types[state] != types[value]:
                raise VerificationError(f"state {state!r} is {types[state]}, its next value {types[value]}")

        for state, value in segment.kept.items():
            if state not in states or value not in there:
                raise VerificationError(f"state {state!r} keeps {value!r}, which is not there")
            wanted = TensorType(types[value].dtype, (segment.count, *types[value].shape))
            if types[state] != wanted:
                raise VerificationError(f"state {state!r} is {types[state]}, to keep {value!r} it must be {wanted}")

    def nodes(self, nodes: Sequence[Node], known: Collection[str], stacked: Collection[str]) -> set[str]:
        """Checks nodes in order, given the names that are there before; returns the names that they make."""
        made: set[str] = set()
        for node in nodes:
            if node.operator not in OPERATORS:
                raise VerificationError(f"{node.origin} has the unknown operator {node.operator}")
            for name in node.inputs:
                if name and name not in made and name not in known:
                    raise VerificationError(f"{node.origin} reads {name!r} before it is made")
            for name in node.outputs:
                if name in made or name in known:
                    raise VerificationError(f"{node.origin} makes {name!r} a second time")
            self.types(node, stacked)
            made.update(node.outputs)
        return made

    def types(self, node: Node, stacked: Collection[str]) -> None:
        """Checks a node's result types against its inputs."""
        program, operator = self.program, OPERATORS[node.operator]
        types = [program.types[i] if i else None for i in node.inputs]
        known = [None if i in stacked else program.constants.get(i) for i in node.inputs]
        if any(known[p] is None for p in operator.constant_inputs if p < len(known) and node.inputs[p]):
            return  # a stacked shape: its slices give one type, but have no single value
        found = result_types(operator, node.attributes, types, known)
        expected = tuple(program.types[o] for o in node.outputs)
        if found != expected:
            raise VerificationError(f"{node.origin} has results {expected}, by its inputs {found}")


def verify_loops(program: LoopProgram) -> None:
    """Checks the loop level: declared names, types, index counts, bounds of indices, spaces that may be written."""
    for name, buffer in program.buffers.items():
        if buffer.space not in SPACES or not name.isidentifier() or name != buffer.name:
            raise VerificationError(f"buffer {name!r} in space {buffer.space!r}")
        if buffer.space == "constant" and program.constants[name].shape != buffer.shape:
            raise VerificationError(f"constant {name!r} has shape {program.constants[name].shape}, not {buffer.shape}")
    _LoopCheck(program, ("state", "scratch")).body(program.begin, {}, {})
    for step in program.steps:
        iterations = {ITERATION: (step.first, step.first + step.count - 1)}
        _LoopCheck(program, ("state", "scratch")).body(step.body, iterations, {})
    _LoopCheck(program, ("output", "scratch")).body(program.end, {}, {})


_Scalars = Mapping[str, tuple[str, bool]]


@dataclass(frozen=True)
class _LoopCheck:
    """Checks one function. Ranges hold the bounds of loop variables, scalars their type and whether they may change."""

    program: LoopProgram
    writable: tuple[str, ...]

    def body(self, body: Sequence[Stmt], ranges: Ranges, scalars: _Scalars) -> None:
        scalars = dict(scalars)
        for s in body:
            if isinstance(s, Nest):
                self.body(s.body, ranges, scalars)
            elif isinstance(s, For):
                self.extent(s, ranges, scalars)
                self.body(s.body, {**ranges, s.var: loop_range(s)}, scalars)
            elif isinstance(s, Store):
                self.store(s, ranges, scalars)
            else:
                self.expression(s.value, ranges, scalars)
                if isinstance(s, Assign) and scalars.get(s.name) != (s.value.dtype, True):
                    raise VerificationError(f"scalar {s.name!r} may not be set to a {s.value.dtype}")
                if isinstance(s, Let):
                    if s.name in scalars:
                        raise VerificationError(f"scalar {s.name!r} is declared twice")
                    scalars[s.name] = (s.value.dtype, s.mutable)

    def extent(self, s: For, ranges: Ranges, scalars: _Scalars) -> None:
        wrong = s.kind not in LOOP_KINDS or s.var in ranges
        if isinstance(s.extent, int):
            wrong = wrong or s.extent < 1
        else:
            self.expression(s.extent, ranges, scalars)
            parts = (isinstance(x, Const | Var | Local | Binary) and x.dtype == "int32" for x in walk(s.extent))
            wrong = wrong or not all(parts) or Var(ITERATION) in walk(s.extent)
        if wrong:
            raise VerificationError(f"loop {s.var} with extent {s.extent} of kind {s.kind!r}")

    def store(self, s: Store, ranges: Ranges, scalars: _Scalars) -> None:
        buffer = self.program.buffers.get(s.buffer)
        if buffer is None or buffer.space not in self.writable:
            raise VerificationError(f"a store to {s.buffer!r}, which this function may not write")
        self.expression(Load(s.buffer, s.indices, buffer.dtype), ranges, scalars)
        self.expression(s.value, ranges, scalars)
        if s.value.dtype != buffer.dtype:
            raise VerificationError(f"a store of {s.value.dtype} to {s.buffer!r} of {buffer.dtype}")

    def expression(self, e: Expr, ranges: Ranges, scalars: _Scalars) -> None:
        for x in reversed(walk(e)):  # operands first: the bounds of an index need its variables
            if isinstance(x, Var) and x.name not in ranges:
                raise VerificationError(f"variable {x.name!r} outside its loop")
            if isinstance(x, Local) and scalars.get(x.name, ("", False))[0] != x.dtype:
                raise VerificationError(f"scalar {x.name!r} before its declaration or of another type")
            if isinstance(x, Binary):
                same = x.a.dtype == x.b.dtype and x.dtype == ("bool" if x.operator in COMPARISONS else x.a.dtype)
                if x.operator not in BINARY_OPERATORS or not same:
                    raise VerificationError(f"operator {x.operator!r} of {x.a.dtype} and {x.b.dtype} to {x.dtype}")
            if isinstance(x, Unary) and x.operator not in UNARY_OPERATORS:
                raise VerificationError(f"operator {x.operator!r}")
            if isinstance(x, Select) and (x.condition.dtype, x.a.dtype, x.b.dtype) != ("bool", x.dtype, x.dtype):
                raise VerificationError(f"a choice by {x.condition.dtype} of {x.a.dtype} and {x.b.dtype} as {x.dtype}")
            if isinstance(x, Load):
                self.load(x, ranges)

    def load(self, x: Load, ranges: Ranges) -> None:
        buffer = self.program.buffers.get(x.buffer)
        if buffer is None or len(x.indices) != len(buffer.shape) or x.dtype != buffer.dtype:
            raise VerificationError(f"a read of {x.buffer!r} with {len(x.indices)} indices as {x.dtype}")
        for index, n in zip(x.indices, buffer.shape, strict=True):
            low, high = bounds(index, ranges, self.program.constants)
            if low < 0 or high >= n:
                raise VerificationError(f"an index into {x.buffer!r} runs from {low} to {high}, its axis has {n}")
