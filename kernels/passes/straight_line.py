"""Writes a solver of few operations out as rows of scalars, in an order that needs few registers.

    for i < 2: acc = 0; for j < 2: acc += a[i, j] x[j]; t[i] = acc
    for i < 2: x[i] = t[i] / a[i, i]
becomes
    x_0 = x[0]; x_1 = x[1]; a_0 = a[0, 0]; a_1 = a[0, 1]; t_0 = a_0 x_0 + a_1 x_1; ... x[0] = t_0 / a_0; ...
The loop over the iterations stays. What was in scratch needs no memory any more, but for numbers that are put aside
where registers run out; what is equal is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.loops import (
    Binary,
    Buffer,
    Const,
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
)
from unfoldc.kernels.passes.equal_scalars import equal_states, merged, regrouped
from unfoldc.kernels.passes.find_streams import find_streams
from unfoldc.kernels.passes.scalar_graph import NotScalarError, Place, ScalarGraph
from unfoldc.kernels.passes.scalar_order import best_moves
from unfoldc.kernels.passes.scalar_registers import Move, cost
from unfoldc.kernels.passes.scalar_units import Units

_COPIED = 200  # elements
_PLACED = "float32"  # what has registers of its own


@dataclass
class _Part:
    """A part of the program, and its operations; None: it stays as it is."""

    body: tuple[Stmt, ...]
    graph: ScalarGraph | None


def straight_line(
    program: LoopProgram, most: int, registers: int, moves: float = float("inf"), growth: float = float("inf")
) -> LoopProgram | None:
    """The program with its parts written out; None if an iteration has more than `most` operations.

    `registers` are those for floating-point numbers. None as well if more than `moves` numbers per operation are read
    from memory or put aside, or if the iterations become `growth` times as long as their loops are, blocks and all. A
    part that cannot be written out stays as it is.
    """
    begin = _Part(program.begin, _graph(program, program.begin, 0, most))
    steps = [_Part(s.body, _graph(program, s.body, s.first, most)) for s in program.steps]
    if not steps or any(part.graph is None for part in steps):
        return None
    ends = [_Part(body, None if kept else _graph(program, body, 0, most)) for body, kept in _end(program)]
    _merge(begin, steps, ends)
    for part in (begin, *ends):
        if part.graph is not None and _copies(part.graph):
            part.graph = None
    _drop_unread([begin, *steps, *ends])
    units = [Units(part.graph) for part in steps if part.graph is not None]
    if any(u.loads > moves * u.operations for u in units):
        return None
    if sum(len(u.units) for u in units) > growth * sum(_operations(part.body) for part in steps):
        return None
    orders = [best_moves(u, registers) for u in units]
    if any(cost(order) > moves * u.operations for u, order in zip(units, orders, strict=True)):
        return None
    buffers = dict(program.buffers)
    first = _once(begin, registers, buffers)
    bodies = [_written_out(u, order, buffers) for u, order in zip(units, orders, strict=True)]
    changed = tuple(replace(s, body=body) for s, body in zip(program.steps, bodies, strict=True))
    end = tuple(s for part in ends for s in _once(part, registers, buffers))
    return replace(program, begin=first, steps=changed, end=end, buffers=buffers)


def _merge(begin: _Part, steps: Sequence[_Part], ends: Sequence[_Part]) -> None:
    """Makes one of scalars that are equal, where it is known what the states start with."""
    if begin.graph is None:
        return
    classes = equal_states(begin.graph, [part.graph for part in steps if part.graph is not None])
    begin.graph = regrouped(begin.graph)
    for part in (*steps, *ends):
        part.graph = part.graph and regrouped(merged(part.graph, classes))


def _once(part: _Part, registers: int, buffers: dict[str, Buffer]) -> tuple[Stmt, ...]:
    """The statements of a part that is run once."""
    if part.graph is None:
        return part.body
    units = Units(part.graph)
    return _written_out(units, best_moves(units, registers), buffers)


def _operations(body: tuple[Stmt, ...]) -> int:
    """Operations and stores that a body has, those in loops once."""
    rows = [s for s in build.statements(body) if not isinstance(s, For | Nest)]
    found = [e for s in rows for top in _values(s) for e in build.walk(top)]
    return sum(isinstance(s, Store) for s in rows) + sum(
        isinstance(e, Binary | Unary) and e.dtype.startswith("float") for e in found
    )


def _values(s: Stmt) -> list[Expr]:
    return [s.value] if isinstance(s, Store) else build.expressions(s)


def _copies(graph: ScalarGraph) -> bool:
    """Whether a part that is run once does little but fill memory, for which a loop is as good and shorter."""
    return len(graph.stored) > max(_COPIED, sum(not graph.scalars[x].is_leaf for x in graph.wanted()))


def _end(program: LoopProgram) -> list[tuple[tuple[Stmt, ...], bool]]:
    """The parts of `end`, each for itself, and whether it is to stay: if it fills a stream, or needs another part."""
    if any(program.buffers[name].space == "scratch" for name in writes(program.end)):
        return [(program.end, True)]
    streams = {s.name for s in find_streams(program).outputs}
    return [((s,), not streams.isdisjoint(writes((s,)))) for s in program.end]


def _graph(program: LoopProgram, body: Sequence[Stmt], first: int, most: int) -> ScalarGraph | None:
    """The operations of a part; None where there are too many, or data decides which."""
    graph = ScalarGraph(program.buffers, program.constants, most, first)
    try:
        graph.run(body, {}, {})
    except NotScalarError:
        return None
    return graph


def _drop_unread(parts: Sequence[_Part]) -> None:
    """Takes out stores that change nothing, of scratch, and of elements of states that no part reads."""
    read: set[Place] = set()
    whole: set[str] = set()
    for part in parts:
        graph = part.graph
        if graph is None:
            whole |= reads(part.body)
            continue
        loads = [s.shape for s in (graph.scalars[x] for x in graph.wanted()) if isinstance(s.shape, Load)]
        read |= {(e.buffer, e.indices) for e in loads}
        whole |= {e.buffer for e in loads if not all(isinstance(i, Const) for i in e.indices)}
    for graph in filter(None, (part.graph for part in parts)):
        graph.stored = {
            place: number for place, number in graph.stored.items()
            if graph.scalars[number].shape != Load(*place, graph.buffers[place[0]].dtype)
            and _is_kept(place, graph.buffers[place[0]].space, read, whole)
        }  # fmt: skip


def _is_kept(place: Place, space: str, read: set[Place], whole: set[str]) -> bool:
    name, indices = place
    known = all(isinstance(i, Const) for i in indices)
    return space == "output" or space == "state" and (not known or place in read or name in whole)


def _written_out(units: Units, moves: Sequence[Move], buffers: dict[str, Buffer]) -> tuple[Stmt, ...]:
    """The operations as statements; what they put aside gets buffers."""
    graph, aside = units.graph, _aside(buffers)
    made: list[Stmt] = []
    names: dict[int, Expr] = {}
    slots: dict[str, int] = {}
    for move in moves:
        number = units.units[move.number].result if move.kind == "unit" else move.number
        dtype = graph.scalars[number].shape.dtype
        at = (f"{aside}_{dtype}", (build.index(move.slot),))
        place = units.units[move.number].place if move.kind == "unit" else at if move.kind == "spill" else None
        if move.kind == "spill":
            slots[dtype] = max(slots.get(dtype, 0), move.slot + 1)
        if place is not None:
            made.append(Store(*place, names.get(number, graph.scalars[number].shape)))
            continue
        value = Load(*at, dtype) if move.kind == "reload" else units.expression(number, _computing(names, move.kind))
        made.append(Let(f"x{len(made)}", value, placed=dtype == _PLACED))
        names[number] = Local(f"x{len(made) - 1}", dtype)
    for dtype, n in slots.items():
        buffers[f"{aside}_{dtype}"] = Buffer(f"{aside}_{dtype}", dtype, (n,), "scratch")
    return (Nest(tuple(graph.origins), tuple(made)),) if made else ()


def _computing(names: Mapping[int, Expr], kind: str) -> Mapping[int, Expr]:
    """What holds operands: a number that is read from memory has none, though it may have been read before."""
    return {} if kind == "load" else names


def _aside(buffers: Mapping[str, Buffer]) -> str:
    """The beginning of a name that no buffer has."""
    number = 0
    while any(name.startswith(f"aside{number}_") for name in buffers):
        number += 1
    return f"aside{number}"
