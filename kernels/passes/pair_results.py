"""Joins two loop nests that do the same with different matrices, where the rows of each fill half a vector.

    for i: for c < 8: acc = 0; for j: acc += h[i, j] x[j, c]; u[i, c] = acc - f(y[i, c])
    for i: for c < 8: acc = 0; for j: acc += h[i, j] y[j, c]; v[i, c] = acc + f(x[i, c])
becomes, with x and y side by side in one buffer, as well as u and v,
    for i: for c < 16: acc = 0; for j: acc += h[i, j] xy[j, c]; uv[i, c] = acc + signs[c] f(xy[i, (c + 8) mod 16])
as for the real and imaginary parts of complex numbers. What is read in both halves alike must not depend on c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.join_forms import Copy, Join, Matrices, Unlike
from unfoldc.kernels.passes.result_form import ResultForm, around, result_form
from unfoldc.kernels.passes.vector_axis import FEWEST_ITERATIONS, fixed_buffers


def pair_results(program: LoopProgram, vector_bits: int) -> LoopProgram:
    """The program with such nests of its iterations joined, if there are any with sums."""
    pairs = _Pairs(program, vector_bits)
    steps = tuple(pairs.joined(s.body, sums=True) for s in program.steps)
    if not pairs.matrices.halves:
        return program
    steps = tuple(pairs.joined(body, sums=False) for body in steps)
    return pairs.program(program, steps)


class _Pairs:
    """Joins nests, and knows the matrices that stand side by side."""

    def __init__(self, program: LoopProgram, vector_bits: int) -> None:
        fixed = fixed_buffers(program) if program.iterations >= FEWEST_ITERATIONS else frozenset()
        self.matrices, self.vector_bits = Matrices(dict(program.buffers), fixed), vector_bits

    def joined(self, body: Sequence[Stmt], sums: bool) -> tuple[Stmt, ...]:
        """A body with the nests joined that hold sums; the others, once it is known what stands side by side."""
        result = list(body)
        i = 0
        while i < len(result):
            for j in range(i + 1, len(result)):
                if not self._may_move(result[i : j + 1]):
                    continue
                both = self._both(result[i], result[j], sums)
                if both is not None:
                    result[i] = both
                    del result[j]
                    break
            i += 1
        return tuple(result)

    def _may_move(self, body: Sequence[Stmt]) -> bool:
        """Whether the last statement may run together with the first."""
        between, last = body[:-1], body[-1:]
        stored, loaded = self._parts(writes(last)), self._parts(reads(last))
        written = self._parts(writes(between))
        return not stored & (written | self._parts(reads(between))) and not loaded & written

    def _parts(self, names: set[str]) -> set[str]:
        """The buffers with the halves of those that hold two."""
        return names | {half for half, (whole, _) in self.matrices.halves.items() if whole in names}

    def _both(self, first: Stmt, second: Stmt, sums: bool) -> Nest | None:
        a, b = result_form(first), result_form(second)
        if a is None or b is None or not a.loops or bool(a.sums) != sums or bool(b.sums) != sums:
            return None
        if [s.extent for s in a.loops] != [s.extent for s in b.loops] or not self._half(a):
            return None
        join = Join(self.matrices, a, b.renamed(a), new=sums)
        before = self.matrices.saved()
        try:
            return join.form().nest()
        except Unlike:
            self.matrices.restore(before)
            return None

    def _half(self, form: ResultForm) -> bool:
        """Whether two rows of the results fit into a vector, and the numbers of elements are powers of 2."""
        width = form.loops[-1].extent
        lanes = self.vector_bits // (8 * np.dtype(self.matrices.buffers[form.buffer].dtype).itemsize)
        return isinstance(width, int) and 2 * width <= lanes and width & (width - 1) == 0

    def program(self, program: LoopProgram, steps: Sequence[Sequence[Stmt]]) -> LoopProgram:
        """The program with these steps, in which every access to a half is one to the whole."""
        made = [replace(program, begin=self._placed(program.begin), end=self._placed(program.end))]
        bodies = [replace(s, body=self._placed(body)) for s, body in zip(program.steps, steps, strict=True)]
        whole: dict[str, Buffer] = {}
        for name, old in self.matrices.buffers.items():
            new = self.matrices.halves[name][0] if name in self.matrices.halves else name
            shape = (*old.shape[:-1], 2 * old.shape[-1]) if name in self.matrices.halves else old.shape
            whole.setdefault(new, replace(old, name=new, shape=shape))
        constants = dict(program.constants)
        for (width, dtype), name in self.matrices.signs.items():
            constants[name] = np.repeat([1, -1], width).astype(dtype)
            whole[name] = Buffer(name, dtype, (2 * width,), "constant")
        fills = []
        for copy in self.matrices.copies.values():
            shape = tuple(s.extent for s in copy.loops if isinstance(s.extent, int))
            dtype = copy.sources[0].dtype
            whole[copy.name] = Buffer(copy.name, dtype, (*shape[:-1], 2 * shape[-1]), "state")
            fills.append(_filled(copy))
        begin = (*made[0].begin, *self._placed(fills))
        return replace(made[0], buffers=whole, constants=constants, begin=begin, steps=tuple(bodies))

    def _placed(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        return tuple(self._at_place(s) for s in body)

    def _at_place(self, s: Stmt) -> Stmt:
        if isinstance(s, For | Nest):
            return replace(s, body=self._placed(s.body))
        s = build.map_stmt(s, self._load_at_place)
        if isinstance(s, Store) and s.buffer in self.matrices.halves:
            name, indices = self._moved(s.buffer, s.indices)
            return replace(s, buffer=name, indices=indices)
        return s

    def _load_at_place(self, e: Expr) -> Expr | None:
        if not isinstance(e, Load) or e.buffer not in self.matrices.halves:
            return None
        indices = tuple(build.map_expr(i, self._load_at_place) for i in e.indices)
        name, indices = self._moved(e.buffer, indices)
        return Load(name, indices, e.dtype)

    def _moved(self, name: str, indices: tuple[Expr, ...]) -> tuple[str, tuple[Expr, ...]]:
        new, half = self.matrices.halves[name]
        shift = build.index(half * self.matrices.buffers[name].shape[-1])
        return new, (*indices[:-1], build.add(indices[-1], shift))


def _filled(copy: Copy) -> Nest:
    return Nest((), around(copy.loops, tuple(_halves(copy))))


def _halves(copy: Copy) -> Iterator[Store]:
    *outer, last = copy.loops
    assert isinstance(last.extent, int)
    for half, source in enumerate(copy.sources):
        column = build.add(Var(last.var), build.index(half * last.extent))
        yield Store(copy.name, (*(Var(s.var) for s in outer), column), source)
