"""Sums over all elements of a matrix column by column, so that columns can be the elements of vectors.

    for j: for c: t[j, c] = f(x[j, c])
    acc = start; for j: for c: acc += t[j, c]; y = g(acc)
becomes
    for c: a = 0; for j: a += f(x[j, c]); p[c] = a
    acc = start; for c: acc += p[c]; y = g(acc)
where t is left out if nothing else reads it. A compiler would add up each row across a vector, which takes longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses, reads, writes
from unfoldc.kernels.loops import Buffer, Expr, For, Load, Local, LoopProgram, Nest, Step, Stmt, Var
from unfoldc.kernels.passes.result_form import ResultForm, Sum, result_form, with_loops


def sum_columns(program: LoopProgram, vector_bits: int) -> LoopProgram:
    """The program with such sums taken apart where a row fills half a vector at least."""
    found = accesses(s for part in program.parts for s in part)
    read_at = Counter(a.buffer for a in found if not a.stored)
    work = _Work(dict(program.buffers), vector_bits, {n for n, count in read_at.items() if count == 1})
    begin, end = work.part(program.begin), work.part(program.end)
    steps = tuple(Step(s.first, s.count, work.part(s.body)) for s in program.steps)
    return replace(program, buffers=work.buffers, begin=begin, steps=steps, end=end)


class _Work:
    """`read_once` are the buffers that stand in one place of the program only, apart from what writes them."""

    def __init__(self, buffers: dict[str, Buffer], vector_bits: int, read_once: set[str]) -> None:
        self.buffers, self.vector_bits, self.read_once = buffers, vector_bits, read_once

    def part(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            form = result_form(s)
            if form is None or form.loops or len(form.sums) != 1:
                result.append(s)
                continue
            ((name, total),) = form.sums.items()
            if not self._has_columns(total):
                result.append(s)
                continue
            total = self._with_makers(total, result)
            result.extend(self._apart(form, name, total))
        return tuple(result)

    def _has_columns(self, total: Sum) -> bool:
        *outer, last = total.loops
        lanes = self.vector_bits // (8 * np.dtype(total.start.dtype).itemsize)
        if not outer or not isinstance(last.extent, int) or last.extent < lanes // 2:
            return False
        column = Var(last.var)
        loads = [e for e in build.walk(total.term) if isinstance(e, Load)]
        across = any(column in build.walk(i) for e in loads for i in e.indices[:-1])
        return not across and any(e.indices[-1:] == (column,) for e in loads)

    def _with_makers(self, total: Sum, before: list[Stmt]) -> Sum:
        """The sum with what it alone reads computed in it; the nests that stored that are gone from `before`."""
        for e in build.walk(total.term):
            if not isinstance(e, Load) or e.buffer not in self.read_once or self.buffers[e.buffer].space != "scratch":
                continue
            made = [i for i, s in enumerate(before) if e.buffer in writes((s,))]
            form = result_form(before[made[0]]) if len(made) == 1 else None
            value = _value_at(form, e, total.loops) if form is not None and not form.sums else None
            if value is None or reads((before[made[0]],)) & writes(before[made[0] :]):
                continue
            total = replace(total, term=_with(total.term, e, value))
            del before[made[0]]
            del self.buffers[e.buffer]
        return total

    def _apart(self, form: ResultForm, name: str, total: Sum) -> list[Nest]:
        *outer, last = total.loops
        assert isinstance(last.extent, int)
        dtype = total.start.dtype
        columns = f"{name}_columns"
        self.buffers[columns] = Buffer(columns, dtype, (last.extent,), "scratch")
        at: tuple[Expr, ...] = (Var(last.var),)
        each = Sum(build.literal(0, dtype), tuple(outer), total.term)
        first = ResultForm(form.origins, (last,), {f"{name}_c": each}, columns, at, Local(f"{name}_c", dtype))
        rest = Sum(total.start, (last,), Load(columns, at, dtype))
        return [first.nest(), replace(form, sums={name: rest}).nest()]


def _with(term: Expr, load: Load, value: Expr) -> Expr:
    return build.map_expr(term, lambda e: value if e == load else None)


def _value_at(form: ResultForm, e: Load, loops: Sequence[For]) -> Expr | None:
    """What stands where `e` reads, if it runs through the results of the form, all of them and in their order."""
    if [s.extent for s in form.loops] != [s.extent for s in loops]:
        return None
    same = tuple(with_loops(i, form.loops, loops) for i in form.indices) == e.indices
    return with_loops(form.value, form.loops, loops) if same else None
