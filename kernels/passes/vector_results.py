"""Makes a vector of neighbouring results share one reduction loop, together with further vectors and rows of results.

    for o: for i: acc = 0; for j: acc += w[i, j] x[o, j]; y[o, i] = f(acc)
becomes, for R rows and V vectors of L lanes,
    for i by V L: for o by R: for lane < L at once:
        acc_00 .. acc_RV = 0; for j: acc_rv += w[j, i + v L] x[o + r, j]; ...
so that all sums stay in registers, each vector that is loaded serves R sums and each number V vectors of them. What is
read along the results must be contiguous: constants are laid out for it, other matrices are left to other passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, linear, loop_range
from unfoldc.kernels.loops import For, Let, Local, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.block_rows import rows_are_independent
from unfoldc.kernels.passes.jam_results import can_slide
from unfoldc.kernels.passes.result_blocks import BlockShape, Chain, ResultBlocks
from unfoldc.kernels.passes.split_epilogue import split_epilogue
from unfoldc.kernels.passes.store_at_once import copy_behind, stored_at_once
from unfoldc.kernels.passes.vector_axis import Layouts, VectorAxis, vector_axis
from unfoldc.kernels.passes.vector_cost import calls_functions

_LONGEST_WINDOW = 7
_LEAST_BITS = 32  # of an element
_SHORT = 64  # results without sums: longer loops a compiler turns into vectors as well
_PLAIN = BlockShape()


def vector_results(program: LoopProgram, vector_bits: int, registers: int, shape: BlockShape = _PLAIN) -> LoopProgram:
    """The program with such nests turned into loops of the kind "lanes"; constants nobody reads any more are gone.

    `registers` is how many vectors of sums may be kept.
    """
    work = _Work(Layouts(program), vector_bits, registers, shape)
    begin, end = work.part(program.begin), work.part(program.end)
    work.layouts.in_step = True
    steps = tuple(Step(s.first, s.count, work.part(s.body)) for s in program.steps)
    begin = (*begin, *work.layouts.twins())
    return work.layouts.used_by(replace(program, begin=begin, steps=steps, end=end))


@dataclass
class _Work:
    layouts: Layouts
    vector_bits: int
    registers: int
    shape: BlockShape

    def part(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        """A part of the program; copies of what is stored at once are spared."""
        result: list[Stmt] = []
        spared: set[int] = set()
        for i, s in enumerate(body):
            if i in spared:
                continue
            made = self.body((s,), {})
            copy = copy_behind(body, i)
            scratch = copy is not None and self.layouts.buffers[copy[1]].space == "scratch"
            at_once = stored_at_once(made, *copy[1:]) if copy is not None and scratch else None
            if copy is not None and at_once is not None:
                made = at_once
                spared.add(copy[0])
            result.extend(made)
        return tuple(result)

    def body(self, body: Sequence[Stmt], around: Ranges) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, Nest):
                result.append(replace(s, body=self.body(s.body, around)))
            elif isinstance(s, For) and s.kind != "lanes":
                result.extend(self.loop(s, around))
            else:
                result.append(s)
        return tuple(result)

    def loop(self, s: For, around: Ranges) -> Sequence[Stmt]:
        chain = _chain(s)
        if chain is not None:
            found = self._vectorised(chain, around)
            if found is None:
                found = self._parted(chain, around)
            if found is not None:
                return found
        return [replace(s, body=self.body(s.body, {**around, s.var: loop_range(s)}))]

    def _vectorised(self, chain: Chain, around: Ranges) -> Sequence[Stmt] | None:
        best: tuple[float, VectorAxis, int] | None = None
        for number, loop in enumerate(chain.loops):
            few = chain.extent(number) * _LEAST_BITS <= self.vector_bits
            border = chain.extent(number) if few and len(chain.loops) == 1 else 0
            axis = vector_axis(chain.body, loop.var, self.layouts, chain.variables, border)
            if axis is None or not self._independent(chain, number, around):
                continue
            lanes = self.vector_bits // (8 * np.dtype(axis.dtype).itemsize)
            extent = chain.extent(number)
            if axis.whole and not (axis.whole == extent <= lanes and extent & (extent - 1) == 0):
                continue
            worth = extent / (-(-extent // lanes) * lanes) - axis.moved / 1e12
            if extent >= lanes // 2 and (best is None or worth > best[0]):
                best = worth, axis, number
        if best is None or (not chain.sums and 1 < len(chain.loops) == best[2] + 1):
            return None  # without sums the innermost loop can do without the others
        _, axis, number = best
        lanes = self.vector_bits // (8 * np.dtype(axis.dtype).itemsize)
        rows, window = self._jammed(chain, number, axis, around)
        results = max(1, self.registers // axis.sums)
        if not chain.sums and calls_functions(chain.body):
            rows, results = self._beside(chain, number, around), self.shape.functions
        form = ResultBlocks(chain, number, rows, window, lanes, results, self.shape)
        return form.blocked(self.layouts)

    def _parted(self, chain: Chain, around: Ranges) -> Sequence[Stmt] | None:
        """Sums apart from what is made of them."""
        if not all(self._independent(chain, i, around) for i in range(len(chain.loops))):
            return None
        name = f"e{sum(n.startswith('e') for n in self.layouts.buffers)}"
        found = split_epilogue(chain.loops, chain.body, name)
        if found is None:
            return None
        self.layouts.buffers[name], sums, functions = found
        return [sums, *self.body((functions,), around)]

    def _jammed(self, chain: Chain, number: int, axis: VectorAxis, around: Ranges) -> tuple[int | None, str]:
        """The loop of which several runs share a vector that was loaded, and the window that it slides over, if any."""
        shared: list[tuple[int, int]] = []
        windows: list[tuple[int, str]] = []
        for i, loop in enumerate(chain.loops):
            if i == number or chain.extent(i) < 2 or not self._independent(chain, i, around):
                continue
            gain = sum(loop.var not in used for used in axis.vectors)
            if gain:
                shared.append((gain, i))
            windows += [(i, w.var) for w in _windows(chain, loop.var)]
        if shared:
            return max(shared)[1], ""
        return windows[0] if windows else (None, "")

    def _beside(self, chain: Chain, number: int, around: Ranges) -> int | None:
        """The innermost loop of which runs may be taken together."""
        several = (i for i in reversed(range(len(chain.loops))) if i != number and chain.extent(i) > 1)
        return next((i for i in several if self._independent(chain, i, around)), None)

    @staticmethod
    def _independent(chain: Chain, number: int, around: Ranges) -> bool:
        outside = dict(around)
        for loop in chain.loops[:number]:
            outside[loop.var] = loop_range(loop)
        return rows_are_independent(chain.loops[number], outside)


def _chain(loop: For) -> Chain | None:
    loops = [loop]
    while len(loops[-1].body) == 1 and isinstance(loops[-1].body[0], For):
        loops.append(loops[-1].body[0])
    body = loops[-1].body
    inner = [s for s in build.statements(body) if isinstance(s, For)]
    if any(s.kind == "lanes" for s in (*loops, *inner)):
        return None
    short = len(loops) > 1 or (isinstance(loop.extent, int) and loop.extent <= _SHORT)
    if any(not isinstance(s.extent, int) for s in loops) or not (all(map(_same_for_all, inner)) if inner else short):
        return None
    return Chain(tuple(loops), _late(body))


def _late(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body with what is loaded before a sum, but read behind it, loaded behind it: the sums need the registers."""
    sums = {s.name for s in body if isinstance(s, Let) and s.mutable}
    result: list[Stmt] = []
    for s in reversed(body):
        at = 0
        if isinstance(s, Let) and s.name not in sums and not any(_reads(s, name) for name in sums):
            at = next((i for i, x in enumerate(result) if _reads(x, s.name) or _stores(x)), 0)
        result.insert(at if any(isinstance(x, For) for x in result[:at]) else 0, s)
    return tuple(result)


def _reads(s: Stmt, scalar: str) -> bool:
    expressions = build.within((s,))
    return any(isinstance(e, Local) and e.name == scalar for e in expressions)


def _stores(s: Stmt) -> bool:
    return any(isinstance(x, Store) for x in build.statements((s,)))


def _same_for_all(loop: For) -> bool:
    """Whether a loop's length does not depend on the loops around it."""
    return isinstance(loop.extent, int) or not any(isinstance(e, Var) for e in build.walk(loop.extent))


def _windows(chain: Chain, var: str) -> list[For]:
    """Short loops over a window that slides along with the results: something is read at `var + j`."""
    loops = [s for s in build.statements(chain.body) if isinstance(s, For)]
    short = [s for s in loops if isinstance(s.extent, int) and s.extent <= _LONGEST_WINDOW and can_slide(s)]
    places = [linear(i) for e in build.loads(chain.body) for i in e.indices]
    return [s for s in short if any(p.terms == {Var(var): 1, Var(s.var): 1} for p in places)]
