"""Program -> LoopProgram: one loop nest for each stored value, with everything that it inlines."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import writes
from unfoldc.kernels.loops import (
    ITERATION,
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
from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.operators.table import Index
from unfoldc.kernels.passes.fuse import stored_values
from unfoldc.kernels.passes.store_in_place import store_in_place
from unfoldc.kernels.program import Node, Program, Segment, TensorType


@dataclass
class _Context:
    """What all parts share: buffers by value, and names."""

    program: Program
    stored: frozenset[str]
    buffers: dict[str, Buffer] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    begin_views: dict[str, Node] = field(default_factory=dict)
    uniform: dict[str, bool] = field(default_factory=dict)
    count: int = 0

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def add(self, prefix: str, type_: TensorType, space: str) -> str:
        number = sum(b.space == space for b in self.buffers.values())
        name = f"{prefix}{number}"
        self.buffers[name] = Buffer(name, type_.dtype, type_.shape, space)
        return name

    def is_uniform(self, value: str) -> bool:
        """Whether all elements of a constant are the same number, which then needs no memory."""
        if value not in self.uniform:
            array = self.program.constants[value]
            same = array == array.flat[0] if array.size else np.False_
            if array.dtype.kind == "f" and array.size:  # -0.0 is another number than 0.0
                same = same & (np.signbit(array) == np.signbit(array.flat[0]))
            self.uniform[value] = bool(np.all(same))
        return self.uniform[value]


@dataclass
class _Part:
    """Lowers the nodes of one function. Implements `operators.table.Lowering`."""

    context: _Context
    nodes: Sequence[Node]
    segment: Segment | None
    maker: dict[str, Node] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    block: list[Stmt] = field(default_factory=list)
    scopes: list[dict[tuple[str, Index], Expr]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.maker = {o: n for n in self.nodes for o in n.outputs}

    # -- what operators may ask --------------------------------------------------------------------------------

    def type(self, value: str) -> TensorType:
        return self.context.program.types[value]

    def constant(self, value: str) -> np.ndarray | None:
        stacked = self.segment is not None and value in self.segment.stacked
        return None if stacked else self.context.program.constants.get(value)

    def fresh(self, prefix: str) -> str:
        return self.context.fresh(prefix)

    def emit(self, statement: Stmt) -> None:
        self.block.append(statement)

    def nested(self, build_block: Callable[[], None]) -> tuple[Stmt, ...]:
        outer, self.block = self.block, []
        self.scopes.append({})
        build_block()
        self.scopes.pop()
        inner, self.block = tuple(self.block), outer
        return inner

    def element(self, value: str, at: Index) -> Expr:
        if value in self.context.program.constants:
            return self.constant_element(value, at)
        buffer = self.place.get(value, self.context.place.get(value))
        if buffer is not None:
            return Load(buffer, at, self.type(value).dtype)
        for scope in reversed(self.scopes):
            if (value, at) in scope:
                return scope[(value, at)]
        node = self.maker[value] if value in self.maker else self.context.begin_views[value]
        expr = self.compute(node, at)
        if not isinstance(expr, Const | Var | Local | Load):
            name = self.fresh("v")
            self.emit(Let(name, expr))
            expr = Local(name, expr.dtype)
        self.scopes[-1][(value, at)] = expr
        return expr

    # -- pieces ------------------------------------------------------------------------------------------------

    def compute(self, node: Node, at: Index) -> Expr:
        origin = str(node.origin)
        if origin not in self.origins:
            self.origins.append(origin)
        return OPERATORS[node.operator].element(self, node, at)

    def constant_element(self, value: str, at: Index) -> Expr:
        array, type_ = self.context.program.constants[value], self.type(value)
        if self.context.is_uniform(value):
            return build.literal(array.flat[0].item(), type_.dtype)
        stacked = self.segment is not None and value in self.segment.stacked
        if stacked and self.segment is not None:
            affine = self.affine(array, at, type_.dtype)
            if affine is not None:
                return affine
            at = (build.sub(Var(ITERATION), build.index(self.segment.first)), *at)
        if not stacked and all(isinstance(i, Const) for i in at):
            return build.literal(array[tuple(int(i.value) for i in at if isinstance(i, Const))].item(), type_.dtype)
        if value not in self.context.place:
            name = self.context.add("w", TensorType(type_.dtype, array.shape), "constant")
            self.context.place[value], self.context.constants[name] = name, np.ascontiguousarray(array)
        return Load(self.context.place[value], at, type_.dtype)

    def affine(self, array: np.ndarray, at: Index, dtype: str) -> Expr | None:
        """An integer that grows by the same step from iteration to iteration, such as the position in a stream."""
        if self.segment is None or array.dtype.kind != "i" or not all(isinstance(i, Const) for i in at):
            return None
        place = tuple(int(i.value) for i in at if isinstance(i, Const))
        values = np.array([part[place] for part in array], np.int64)
        steps = np.diff(values)
        if abs(values).max() >= 2**30 or (steps != steps[:1]).any():
            return None
        k = build.sub(Var(ITERATION), build.index(self.segment.first))
        moved = build.mul(k, build.index(int(steps[0]) if steps.size else 0))
        return build.cast(build.add(moved, build.index(int(values[0]))), dtype)

    def bounds(self, value: str) -> tuple[float, float] | None:
        known = self.context.program.constants.get(value)
        return None if known is None or not known.size else (known.min().item(), known.max().item())

    def nest(self, buffer: str, type_: TensorType, element: Callable[[Index], Expr]) -> Nest:
        """Loops over all elements of `type_` and stores what `element` gives."""
        variables = [self.fresh("i") if n > 1 else "" for n in type_.shape]
        at = tuple(Var(v) if v else build.ZERO for v in variables)
        self.origins = []
        body = self.nested(lambda: self.emit(Store(buffer, at, element(at))))
        for variable, n in reversed(list(zip(variables, type_.shape, strict=True))):
            if variable:
                body = (For(variable, n, body),)
        return Nest(tuple(self.origins), body)

    def copy(self, value: str, buffer: str) -> Nest:
        """Stores a value that exists elsewhere (or is constant) into a buffer."""
        type_ = self.type(value)
        return self.nest(buffer, type_, lambda at: self.element(value, at))

    def keep(self, value: str, buffer: str) -> Nest:
        """Stores a value into the slot of the running iteration."""
        nest = self.copy(value, buffer)
        first = 0 if self.segment is None else self.segment.first
        slot = build.sub(Var(ITERATION), build.index(first))

        def shift(s: Stmt) -> Stmt:
            if isinstance(s, For):
                return For(s.var, s.extent, tuple(map(shift, s.body)), s.kind)
            return Store(s.buffer, (slot, *s.indices), s.value) if isinstance(s, Store) else s

        return Nest(nest.origins, tuple(map(shift, nest.body)))

    def store_all(self, kept: Container[str] = ()) -> list[Nest]:
        """One nest for each stored value, in order; those `kept` for other parts live in the state."""
        nests = []
        for node in self.nodes:
            for name in node.outputs:
                if name in self.context.stored:
                    type_ = self.type(name)
                    prefix, space = ("h", "state") if name in kept else ("t", "scratch")
                    buffer = self.context.add(prefix, type_, space)
                    whole = OPERATORS[node.operator].nest
                    if whole is None:
                        nests.append(self.nest(buffer, type_, partial(self.compute, node)))
                    else:
                        body = self.nested(partial(whole, self, node, buffer))
                        nests.append(Nest((str(node.origin),), body))
                    self.place[name] = buffer
        return nests


def lower(program: Program, stored: frozenset[str] | None = None) -> LoopProgram:
    """Lowers a rolled program. Values that cross from `begin` live in the state, others in scratch.

    `stored` names the values that get a buffer, None for the choice of `passes.fuse`.
    """
    context = _Context(program, stored_values(program) if stored is None else stored)
    inputs = [context.add("input_", program.types[name], "input") for name in program.inputs]
    context.place.update(zip(program.inputs, inputs, strict=True))
    outputs = [context.add("output_", program.types[name], "output") for name in program.outputs]
    states = {s.name: context.add("state_", program.types[s.name], "state") for s in program.states}
    begin = _lower_begin(context, states)
    context.place.update(states)
    steps = tuple(Step(s.first, s.count, _lower_segment(context, s, states)) for s in program.segments)
    end = _lower_end(context, outputs)
    parts = (begin, *(step.body for step in steps), end)
    used = writes(s for part in parts for s in part)
    buffers = {n: b for n, b in context.buffers.items() if b.space in ("input", "output", "constant") or n in used}
    return LoopProgram(buffers, context.constants, tuple(inputs), tuple(outputs), begin, steps, end)


def _lower_begin(context: _Context, states: dict[str, str]) -> tuple[Stmt, ...]:
    part = _Part(context, context.program.begin, None)
    views = {o: n for n in part.nodes for o in n.outputs if OPERATORS[n.operator].kind == "view"}
    later = _read_later(context)
    nests = part.store_all(later)
    copies = [part.copy(s.initial, states[s.name]) for s in context.program.states]
    context.begin_views.update({k: n for k, n in views.items() if k not in part.place})
    body, _ = store_in_place(nests, copies, keep={part.place[name] for name in later})
    context.place.update({name: part.place[name] for name in later})
    return body


def _read_later(context: _Context) -> set[str]:
    """Stored values of `begin` that another part reads, directly or through a view."""
    program = context.program
    maker = {o: n for n in program.begin for o in n.outputs}
    todo = [i for s in program.segments for n in s.nodes for i in n.inputs]
    todo += [i for n in program.end for i in n.inputs] + list(program.outputs)
    todo += [v for s in program.segments for v in s.results]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in maker and name not in seen:
            seen.add(name)
            if name not in context.stored:
                todo.extend(maker[name].inputs)
    return seen & context.stored


def _lower_segment(context: _Context, segment: Segment, states: dict[str, str]) -> tuple[Stmt, ...]:
    part = _Part(context, segment.nodes, segment)
    early: list[Nest] = []
    before: dict[str, str] = {}
    # A state that takes over another state's old content: set it aside before anything is overwritten.
    for value in sorted({v for s, v in segment.carried.items() if v in states and v != s}):
        before[value] = context.add("t", part.type(value), "scratch")
        early.append(part.copy(value, before[value]))
    nests = part.store_all()
    nests += [part.keep(value, states[history]) for history, value in segment.kept.items()]
    copies = []
    for state, value in segment.carried.items():
        if value == state:
            continue
        if value in states:
            type_ = part.type(value)
            copies.append(part.nest(states[state], type_, partial(_read, before[value], type_.dtype)))
        else:
            copies.append(part.copy(value, states[state]))
    return store_in_place([*early, *nests], copies, keep=set())[0]


def _read(buffer: str, dtype: str, at: Index) -> Expr:
    return Load(buffer, at, dtype)


def _lower_end(context: _Context, outputs: list[str]) -> tuple[Stmt, ...]:
    part = _Part(context, context.program.end, None)
    nests = part.store_all()
    copies = [part.copy(value, buffer) for value, buffer in zip(context.program.outputs, outputs, strict=True)]
    return store_in_place(nests, copies, keep=set())[0]
