"""Finds streams: inputs of which each iteration reads a slice of its own, and outputs to which each adds a slice.

With all K iterations in one body, iteration k reads no element of a stream but those of slice k, and these lie one
behind the other. So a caller may hand over one slice at a time, for example the measurement that has just arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.index_bounds import Ranges, bounds, loop_range
from unfoldc.kernels.loops import (
    ITERATION,
    Binary,
    Cast,
    Const,
    Expr,
    For,
    Load,
    LoopProgram,
    Nest,
    Stmt,
    Store,
    Var,
)

_K = Var(ITERATION)


@dataclass(frozen=True)
class Stream:
    """A buffer with `size` elements for each iteration.

    An input: `begins` says that `begin` reads the slice of iteration 0. An output: slice k stands in slot k of the
    state `history`.
    """

    name: str
    size: int
    begins: bool = False
    history: str = ""


@dataclass(frozen=True)
class Streams:
    """The streams of a program, in the order of its arguments; without inputs there are no outputs.

    `endless`: iterations differ in their slices alone, so that they may start over at 0 with the states as they are.
    """

    inputs: tuple[Stream, ...] = ()
    outputs: tuple[Stream, ...] = ()
    endless: bool = False


def find_streams(program: LoopProgram) -> Streams:
    """The streams of a program whose iterations have one body; none of any other."""
    if len(program.steps) != 1 or program.iterations < 2:
        return Streams()
    inputs = tuple(s for s in (_input(program, name) for name in program.inputs) if s is not None)
    if not inputs:
        return Streams()
    outputs = tuple(s for s in (_output(program, name) for name in program.outputs) if s is not None)
    return Streams(inputs, outputs, _endless(take_slices(program, inputs), outputs))


def port_streams(program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]) -> dict[str, list[str]]:
    """The names in the model of the inputs and outputs that are streams."""
    found = find_streams(program)
    names = {s.name for s in (*found.inputs, *found.outputs)}
    sides = {"inputs": (program.inputs, inputs), "outputs": (program.outputs, outputs)}
    return {
        side: [port.name for name, port in zip(buffers, ports, strict=True) if name in names]
        for side, (buffers, ports) in sides.items()
    }


def take_slices(program: LoopProgram, inputs: Sequence[Stream]) -> LoopProgram:
    """The program with each of these input streams as the slice of the running iteration, and of 0 in `begin`."""
    axes = {s.name: _axis(program, s.name) for s in inputs}
    buffers = dict(program.buffers)
    for name, axis in axes.items():
        shape = list(buffers[name].shape)
        shape[axis] //= program.iterations
        buffers[name] = replace(buffers[name], shape=tuple(shape))

    def change(e: Expr) -> Expr | None:
        if not isinstance(e, Load) or e.buffer not in axes:
            return None
        indices = list(e.indices)
        axis = axes[e.buffer]
        one = buffers[e.buffer].shape[axis] == 1
        indices[axis] = build.ZERO if one else _at_start(indices[axis])
        return Load(e.buffer, tuple(indices), e.dtype)

    steps = tuple(replace(step, body=tuple(build.map_stmt(s, change) for s in step.body)) for step in program.steps)
    return replace(program, buffers=buffers, steps=steps)


def _axis(program: LoopProgram, name: str) -> int:
    """The first axis with more than one element; -1 if there is none."""
    return next((a for a, n in enumerate(program.buffers[name].shape) if n > 1), -1)


def _input(program: LoopProgram, name: str) -> Stream | None:
    axis, count, buffer = _axis(program, name), program.iterations, program.buffers[name]
    if axis < 0 or buffer.shape[axis] % count or not buffer.size:
        return None
    width = buffer.shape[axis] // count  # of a slice, along this axis
    if any(load.buffer == name for load, _ in _loads(program.end, {})):
        return None
    first = [(load.indices[axis], ranges) for load, ranges in _loads(program.begin, {}) if load.buffer == name]
    every = [(x.indices[axis], r) for x, r in _loads(program.steps[0].body, {}) if x.buffer == name]
    if not every or any(_growth(index) != width for index, _ in every):
        return None
    for index, ranges in (*first, *((_at_start(index), ranges) for index, ranges in every)):
        low, high = bounds(index, ranges, program.constants)
        if low < 0 or high >= width:
            return None
    return Stream(name, buffer.size // count, begins=bool(first))


def _output(program: LoopProgram, name: str) -> Stream | None:
    """The stream if `end` fills the output from a history and all that the iterations write there is their slot."""
    makers = [s for s in program.end if name in _stored(s)]
    if len(makers) != 1:
        return None
    loops, inner = _inside(makers[0])
    if not isinstance(inner, Store) or not isinstance(inner.value, Load):
        return None
    history, out = program.buffers[inner.value.buffer], program.buffers[name]
    body, count = program.steps[0].body, program.iterations
    if history.space != "state" or history.shape[:1] != (count,) or history.size != out.size or not out.size:
        return None
    if any(load.buffer == history.name for load, _ in (*_loads(program.begin, {}), *_loads(body, {}))):
        return None
    slots = [s.indices[0] for s in build.statements(body) if isinstance(s, Store) and s.buffer == history.name]
    if not slots or any(slot != _K for slot in slots):
        return None
    source, target = (
        _places(indices, shape, loops)
        for indices, shape in ((inner.value.indices, history.shape), (inner.indices, out.shape))
    )
    if source is None or target is None or np.bincount(source, minlength=out.size).tolist() != [1] * out.size:
        return None
    order = np.empty(out.size, np.int64)
    order[source] = target
    return Stream(name, out.size // count, history=history.name) if _slices(order, out.shape, count) else None


def _slices(order: np.ndarray, shape: Sequence[int], count: int) -> bool:
    """Whether slots in order are the slices of an array along one of its axes, or its consecutive parts."""
    plain = np.arange(order.size)
    if np.array_equal(order, plain):
        return True
    whole = plain.reshape(shape)
    return any(n == count and np.array_equal(order, np.moveaxis(whole, a, 0).ravel()) for a, n in enumerate(shape))


def _endless(sliced: LoopProgram, outputs: Sequence[Stream]) -> bool:
    """Whether the number of the iteration is used to find a slice or a slot of these streams and for nothing else."""
    histories = {s.history for s in outputs}
    for s in build.statements(sliced.steps[0].body):
        if isinstance(s, For | Nest):
            continue
        found = build.expressions(s)
        if isinstance(s, Store) and s.buffer in histories:
            found = found[1:]
        if any(e == _K for top in found for e in build.walk(top)):
            return False
    return True


def _loads(body: Sequence[Stmt], ranges: Ranges) -> Iterator[tuple[Load, Ranges]]:
    """Every read of a buffer, with the values of the loop variables around it."""
    for s in body:
        if isinstance(s, For):
            yield from _loads(s.body, {**ranges, s.var: loop_range(s)})
        elif isinstance(s, Nest):
            yield from _loads(s.body, ranges)
        else:
            yield from ((e, ranges) for e in build.loads((s,)))


def _stored(s: Stmt) -> set[str]:
    return {inner.buffer for inner in build.statements((s,)) if isinstance(inner, Store)}


def _inside(s: Stmt) -> tuple[list[For], Stmt]:
    """The loops around the only statement inside, and that statement."""
    loops = []
    while isinstance(s, For | Nest) and len(s.body) == 1:
        if isinstance(s, For):
            loops.append(s)
        s = s.body[0]
    return loops, s


def _growth(e: Expr) -> int | None:
    """By how much an index grows from one iteration to the next; None where that is not the same for all."""
    if e == _K:
        return 1
    if all(x != _K for x in build.walk(e)):
        return 0
    if isinstance(e, Cast) and e.a.dtype.startswith("int"):
        return _growth(e.a)
    if isinstance(e, Binary) and e.operator in ("add", "sub", "mul"):
        a, b = _growth(e.a), _growth(e.b)
        if a is None or b is None:
            return None
        if e.operator != "mul":
            return a + b if e.operator == "add" else a - b
        for growth, factor in ((a, e.b), (b, e.a)):
            if isinstance(factor, Const):
                return growth * int(factor.value)
    return None


def _at_start(e: Expr) -> Expr:
    """The index in iteration 0."""
    return build.map_expr(e, lambda x: build.ZERO if x == _K else None)


def _places(indices: Sequence[Expr], shape: Sequence[int], loops: Sequence[For]) -> np.ndarray | None:
    """The row-major position in every pass of the loops, in order; None where it depends on data."""
    extents = [loop.extent for loop in loops if isinstance(loop.extent, int)]
    if len(extents) < len(loops):
        return None
    grid = np.indices(extents).reshape(len(loops), -1)
    values = {loop.var: grid[i] for i, loop in enumerate(loops)}
    place: np.ndarray = np.zeros(grid.shape[1] if loops else 1, np.int64)
    for index, n in zip(indices, shape, strict=True):
        found = _evaluate(index, values)
        if found is None:
            return None
        place = place * n + found
    return place


def _evaluate(e: Expr, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if isinstance(e, Const):
        return np.asarray(e.value, np.int64)
    if isinstance(e, Var):
        return values[e.name]
    if isinstance(e, Cast) and e.a.dtype.startswith("int"):
        return _evaluate(e.a, values)
    if isinstance(e, Binary) and e.operator in _INTEGER:
        a, b = _evaluate(e.a, values), _evaluate(e.b, values)
        return None if a is None or b is None else _INTEGER[e.operator](a, b)
    return None


_INTEGER: Mapping[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "min": np.minimum,
    "max": np.maximum,
}
