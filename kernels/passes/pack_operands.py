"""Lays out a matrix that is read across its rows again and again, so that what is read lies side by side.

    for i: for c: acc = 0; for j < 5: acc += u[i, j] v[c, j]; t[i, c] = acc
becomes
    for j < 5: for c: p[j, c] = v[c, j]
    for i: for c: acc = 0; for j < 5: acc += u[i, j] p[j, c]; t[i, c] = acc
where neighbouring results, or neighbouring terms of a sum, become neighbours in memory and can be elements of a vector.
The copy is worth it where each of its elements is read many times. Constants are laid out when compiling instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

from unfoldc.kernels import build
from unfoldc.kernels.accesses import Access, accesses, writes
from unfoldc.kernels.loops import ITERATION, Buffer, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.fuse_sweeps import in_whole_lines

T = TypeVar("T")
_LINE = 64  # bytes; a vector that crosses its end takes two accesses
_READS = 64  # of one element, at least, for each time that it is copied


def pack_operands(program: LoopProgram, lanes: int, least: int = _READS) -> LoopProgram:
    """Returns the program with such copies in scratch, for vectors of so many lanes and at least so many reads."""
    work = _Work(dict(program.buffers), lanes, least)
    begin = work.part(program.begin)
    steps = tuple(Step(s.first, s.count, work.part(s.body)) for s in program.steps)
    end = work.part(program.end)
    return replace(program, buffers=work.buffers, begin=begin, steps=steps, end=end)


@dataclass
class _Work:
    buffers: dict[str, Buffer]
    lanes: int
    least: int

    def part(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            packed: dict[tuple[str, int], str] = {}
            s = self.units(s, {}, writes((s,)), packed)
            result.extend(copied(self.buffers[name], axis, new) for (name, axis), new in packed.items())
            result.append(s)
        return tuple(result)

    def units(self, s: Stmt, around: Mapping[str, int], written: set[str], packed: dict[tuple[str, int], str]) -> Stmt:
        """The statement with its loads from packed matrices; nests and loops inside loops over nests on their own."""
        if isinstance(s, For) and isinstance(s.extent, int) and all(isinstance(b, Nest) for b in s.body):
            inner = {**around, s.var: s.extent}
            return replace(s, body=tuple(self.units(b, inner, written, packed) for b in s.body))
        found = self.moves(s, around, written)

        def change(e: Expr) -> Expr | None:
            axis = found.get((e.buffer, e.indices)) if isinstance(e, Load) else None
            if axis is None or not isinstance(e, Load):
                return None
            if (e.buffer, axis) not in packed:
                packed[e.buffer, axis] = self.fresh(e.buffer, axis)
            return Load(packed[e.buffer, axis], moved(e.indices, axis), e.dtype)

        return build.map_stmt(s, change) if found else s

    def moves(self, s: Stmt, around: Mapping[str, int], written: set[str]) -> dict[tuple[str, tuple[Expr, ...]], int]:
        """The loads that are to read a packed matrix, and the axis that becomes its last."""
        loops = [x for x in build.statements((s,)) if isinstance(x, For)]
        extents = {**around, **{x.var: x.extent for x in loops if isinstance(x.extent, int)}}
        if any(not isinstance(x.extent, int) for x in loops):
            return {}
        found = accesses((s,))
        results = {self.last(a) for a in found if a.stored}
        terms = {self.last(a) for a in found}
        result: dict[tuple[str, tuple[Expr, ...]], int] = {}
        for a in found:
            if a.stored or a.buffer in written or self.buffers[a.buffer].space == "constant":
                continue
            names = {x.name for i in a.indices for x in build.walk(i) if isinstance(x, Var)}
            across = {x.name for x in build.walk(self.last(a)) if isinstance(x, Var)}
            times = prod(n for name, n in extents.items() if name not in names)
            short = all(extents.get(name, 0) < self.lanes for name in across)
            if ITERATION in names:  # each iteration has a slice of its own: the others are not there yet
                continue
            if times < self.least or not across or (not short and self.last(a) in results):
                continue
            for axis, i in enumerate(a.indices):
                long = isinstance(i, Var) and extents.get(i.name, 0) >= self.lanes and i.name not in across
                if long and (i in results or (short and i in terms)):
                    result[a.buffer, a.indices] = axis
        return result

    def last(self, a: Access) -> Expr:
        """The index along which elements lie side by side."""
        shape = self.buffers[a.buffer].shape
        long = [i for i, n in zip(a.indices, shape, strict=True) if n > 1]
        return long[-1] if long else build.ZERO

    def fresh(self, name: str, axis: int) -> str:
        """A new buffer for the matrix with an axis moved to the end."""
        new = f"p_{name}_by{axis}"
        while new in self.buffers:
            new += "_"
        old = self.buffers[name]
        shape = moved(old.shape, axis)
        self.buffers[new] = in_whole_lines(Buffer(new, old.dtype, shape, "scratch"), _LINE)
        return new


def copied(buffer: Buffer, axis: int, new: str) -> Nest:
    """Fills `new` with the buffer's elements, an axis moved to the end."""
    at: tuple[Expr, ...] = tuple(Var(f"{new}_{p}") if n > 1 else build.ZERO for p, n in enumerate(buffer.shape))
    body: tuple[Stmt, ...] = (Store(new, moved(at, axis), Load(buffer.name, at, buffer.dtype)),)
    for p in reversed(moved(tuple(range(len(buffer.shape))), axis)):
        if buffer.shape[p] > 1:
            body = (For(f"{new}_{p}", buffer.shape[p], body),)
    return Nest((), body)


def moved(items: tuple[T, ...], axis: int) -> tuple[T, ...]:
    """The items with one of them at the end."""
    return (*items[:axis], *items[axis + 1 :], items[axis])
