"""Products of symmetric constant matrices with vectors, in iterations, read half of the matrix.

    for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc)
becomes what `half_blocks` describes and
    for i: acc = 0; acc += p[i]; y[i] = f(acc)

To add up the sums of a row of blocks takes as long as one or two of its blocks, so that a product from the first cache
gets slower (order 64: 76 ns for 61). It pays where the constants of an iteration do not fit that cache: then bytes
decide: 233 ns for 393 at order 128, and 8 us for 26 at 704, of which half fits the second-level cache (512-bit vectors;
with shorter ones the gain is 1.3 to 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reading, reads
from unfoldc.kernels.loops import (
    ITERATION,
    Assign,
    Buffer,
    Expr,
    For,
    Load,
    Local,
    LoopProgram,
    Nest,
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.passes.half_blocks import HalfBlocks
from unfoldc.kernels.passes.matrix_vector import MatrixVector, chosen_by, matrix_vector, symmetric_matrix

_FEWEST_BLOCKS = 4  # along an axis
_LARGEST_SHARE = 0.75  # of the matrix that is stored; zeros fill up the last blocks
_MOST_TOGETHER = 4
_OPERANDS = 3  # registers for a vector of the matrix, a number of x and one to spare


def half_products(program: LoopProgram, vector_bits: int, registers: int, cache: int) -> LoopProgram:
    """The program with such products where the iterations read more than `cache` bytes of constants.

    `registers` is how many vectors the processor holds.
    """
    read = reads(s for step in program.steps for s in step.body)
    if sum(v.nbytes for n, v in program.constants.items() if n in read) <= cache:
        return program
    work = _Work(dict(program.buffers), dict(program.constants), vector_bits, registers)
    changed = replace(program, steps=tuple(replace(s, body=work.body(s.body)) for s in program.steps))
    if not work.made:
        return program
    return reading(changed, work.buffers, work.constants)


@dataclass
class _Work:
    buffers: dict[str, Buffer]
    constants: dict[str, np.ndarray]
    vector_bits: int
    registers: int

    def __post_init__(self) -> None:
        self.made: dict[tuple[str, tuple[Expr, ...]], tuple[str, ...]] = {}
        self.products = 0

    def body(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, For) and all(isinstance(b, Nest) for b in s.body):
                result.append(replace(s, body=self.body(s.body)))
            elif isinstance(s, Nest) and len(s.body) == 1 and isinstance(s.body[0], For):
                result.extend(self.nest(s, s.body[0]))
            else:
                result.append(s)
        return tuple(result)

    def nest(self, nest: Nest, rows: For) -> list[Stmt]:
        """The products of a nest, and what is left of it."""
        before: list[Stmt] = []
        body = list(rows.body)
        for place in range(len(body)):
            found = matrix_vector(rows, place, self.constants)
            form = self.form(found) if found is not None else None
            if found is None or form is None:
                continue
            dtype = found.matrix.dtype
            scratch = form.scratch(f"half{self.products}", dtype)
            self.products += 1
            self.buffers.update({b.name: b for b in scratch})
            filled = replace(found.loop, body=(*found.before, Store(scratch[0].name, (Var(found.loop.var),), found.x)))
            before.append(Nest(nest.origins, (filled,)))
            matrices, lead = self.packed(found, form)
            before += form.product(matrices, lead, scratch)
            total = Load(scratch[1].name, (Var(rows.var),), dtype)
            body[place] = Assign(found.sum, build.add(Local(found.sum, dtype), total))
        return [*before, replace(nest, body=(replace(rows, body=tuple(body)),))]

    def form(self, found: MatrixVector) -> HalfBlocks | None:
        """How the matrix is cut into blocks; None where it is not symmetric or not large enough."""
        matrix = symmetric_matrix(found, self.constants)
        if matrix is None:
            return None
        order, lanes = matrix.shape[-1], self.vector_bits // (8 * matrix.dtype.itemsize)
        room = (self.registers - lanes - _OPERANDS) // 2  # each takes a vector of x and one of y
        form = HalfBlocks(order, lanes, max(1, min(_MOST_TOGETHER, room)))
        return form if form.blocks >= _FEWEST_BLOCKS and form.stored <= _LARGEST_SHARE * order**2 else None

    def packed(self, found: MatrixVector, form: HalfBlocks) -> tuple[tuple[str, ...], tuple[Expr, ...]]:
        """The names of the constants with the blocks, and their first indices."""
        load, others = found.matrix, chosen_by(found.matrix)
        if (load.buffer, others) not in self.made:
            matrix = symmetric_matrix(found, self.constants)
            assert matrix is not None
            names = [f"{load.buffer}_half{len(self.made)}_{n}" for n in range(len(form.rows()))]
            for name, array in zip(names, form.packed(matrix), strict=True):
                self.constants[name] = array
                self.buffers[name] = Buffer(name, load.dtype, array.shape, "constant")
            self.made[load.buffer, others] = tuple(names)
        return self.made[load.buffer, others], tuple(i for i in others if i == Var(ITERATION))
