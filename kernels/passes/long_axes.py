"""Lays values out with a long axis last, where the results along it fill vectors and those along a short one do not.

    for i < 32: for c < 8: t[i, c] = tanh(h[i, c])
becomes
    for i < 32: for c < 8: t[c, i] = tanh(h[c, i])
for a machine with 16 numbers to a vector: 8 of them are half a one. A nest wants all that it reads and writes along an
axis laid out alike, and so does every other nest that touches the same values along that axis. Such a change is made as
a whole, and only if the program with vectors takes fewer operations for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import Access, accesses
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.pack_operands import moved
from unfoldc.kernels.passes.vector_cost import vector_cost

Moves = Mapping[str, int]
"""Buffer -> the axis that becomes its last."""

_MOST_TRIED = 8
_SHORT = 2  # vectors; in longer rows nearly all of them are full
_GAIN = 0.95  # of the operations may be left, or it stays as it is


def long_axes_last(
    program: LoopProgram, vector_bits: int, vectorised: Callable[[LoopProgram], LoopProgram]
) -> LoopProgram:
    """The program with the change that saves most, if any; `vectorised` is what makes vectors of it afterwards."""
    tried = _proposals(program, vector_bits)[:_MOST_TRIED]
    if not tried:
        return program
    best, least = program, _GAIN * vector_cost(vectorised(program))
    for moves in tried:
        changed = _laid_out(program, moves)
        cost = vector_cost(vectorised(changed))
        if cost < least:
            best, least = changed, cost
    return best


@dataclass(frozen=True)
class _Results:
    """Loops directly inside one another, and what the innermost of them touches."""

    variables: Mapping[str, int]
    touched: Sequence[Access]


def _proposals(program: LoopProgram, vector_bits: int) -> list[Moves]:
    """A change for each loop of the iterations along which short rows are read or written; each once."""
    repeated = [n for step in program.steps for n in _nests(step.body)]
    nests = [*repeated, *_nests(program.begin), *_nests(program.end)]
    found: list[Moves] = []
    for nest in repeated:
        for var, extent in nest.variables.items():
            if not any(_across_short_rows(a, var, extent, program.buffers, vector_bits) for a in nest.touched):
                continue
            moves = _closure(nests, nest, var, program.buffers)
            if moves and moves not in found:
                found.append(moves)
    return found


def _nests(body: Sequence[Stmt]) -> list[_Results]:
    result: list[_Results] = []
    for s in body:
        if isinstance(s, Nest):
            result.extend(_nests(s.body))
        elif isinstance(s, For):
            variables: dict[str, int] = {}
            inner: tuple[Stmt, ...] = (s,)
            while len(inner) == 1 and isinstance(inner[0], For) and isinstance(inner[0].extent, int):
                variables[inner[0].var] = inner[0].extent
                inner = inner[0].body
            if any(isinstance(x, Nest) for x in inner):
                result.extend(_nests(inner))
            else:
                result.append(_Results(variables, accesses(inner)))
    return result


def _across_short_rows(a: Access, var: str, extent: int, buffers: Mapping[str, Buffer], vector_bits: int) -> bool:
    """Whether an access moves across the short rows of a buffer, along an axis that would fill vectors better."""
    buffer, axis = buffers[a.buffer], _axis(a, var)
    long = [n for n in buffer.shape if n > 1]
    if not _ours(buffer) or axis is None or len(long) < 2 or _last(buffer, axis):
        return False
    lanes = vector_bits // (8 * np.dtype(buffer.dtype).itemsize)
    return long[-1] < _SHORT * lanes and _filled(long[-1], lanes) < _filled(extent, lanes)


def _filled(results: int, lanes: int) -> float:
    """The share of their vectors that neighbouring results fill; those left over take one for each power of 2."""
    whole, rest = divmod(results, lanes)
    return results / (lanes * (whole + rest.bit_count()))


def _closure(nests: Sequence[_Results], first: _Results, var: str, buffers: Mapping[str, Buffer]) -> Moves:
    """What must move for the results of a nest along a variable to be neighbours, and for other nests to keep up."""
    wanted: dict[str, int] = {}
    queue, seen = [(first, var)], [first]
    while queue:
        nest, along = queue.pop(0)
        for a in nest.touched:
            axis = _axis(a, along)
            if axis is None or a.buffer in wanted or not _ours(buffers[a.buffer]):
                continue
            wanted[a.buffer] = axis
            for other in nests:
                own = [x for x in other.touched if x.buffer == a.buffer]
                same = [v for x in own for v in other.variables if _axis(x, v) == axis]
                if same and not any(other is x for x in seen):
                    seen.append(other)
                    queue.append((other, same[0]))
    return {name: axis for name, axis in wanted.items() if not _last(buffers[name], axis)}


def _axis(a: Access, var: str) -> int | None:
    """The one axis along which an access moves by 1 as the variable does."""
    at = [p for p, i in enumerate(a.indices) if Var(var) in build.walk(i)]
    if len(at) != 1:
        return None
    terms = linear(a.indices[at[0]]).terms
    return at[0] if terms.pop(Var(var), 0) == 1 and not any(Var(var) in build.walk(e) for e in terms) else None


def _last(buffer: Buffer, axis: int) -> bool:
    return all(n == 1 for n in buffer.shape[axis + 1 :])


def _ours(buffer: Buffer) -> bool:
    """Whether its order is the compiler's to choose."""
    return buffer.space in ("state", "scratch")


def _laid_out(program: LoopProgram, moves: Moves) -> LoopProgram:
    def places(name: str, indices: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return moved(indices, moves[name]) if name in moves else indices

    def change(e: Expr) -> Expr | None:
        if not isinstance(e, Load) or e.buffer not in moves:
            return None
        return Load(e.buffer, places(e.buffer, tuple(build.map_expr(i, change) for i in e.indices)), e.dtype)

    def statement(s: Stmt) -> Stmt:
        if isinstance(s, For | Nest):
            return replace(s, body=tuple(map(statement, s.body)))
        s = build.map_stmt(s, change)
        return replace(s, indices=places(s.buffer, s.indices)) if isinstance(s, Store) else s

    buffers = {n: replace(b, shape=moved(b.shape, moves[n])) if n in moves else b for n, b in program.buffers.items()}
    return replace(
        program,
        buffers=buffers,
        begin=tuple(map(statement, program.begin)),
        steps=tuple(Step(s.first, s.count, tuple(map(statement, s.body))) for s in program.steps),
        end=tuple(map(statement, program.end)),
    )
