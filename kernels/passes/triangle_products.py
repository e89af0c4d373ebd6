"""Products of symmetric constant matrices with vectors, read half of the matrix, on processors without vectors.

    for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc)
becomes, R rows at a time, with what `triangle_blocks` describes
    for i: p[i] = 0
    for blocks of R rows: acc_0, acc_1, .. = 0; acc_r += p[..]; <products>; y[..] = f(acc_0); ...
Such a processor spends one instruction on each load: two for a product become one and a half, and the matrix takes half
the flash. A matrix that something else reads as well stays whole, for it would take flash once and a half.

When a block is done nobody reads its x again, so a nest that follows and writes x[i] joins, where else x would have to
wait for the whole product in a copy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reading
from unfoldc.kernels.loops import ITERATION, Assign, Buffer, Expr, For, Load, Local, LoopProgram, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.block_rows import jam, rows_are_independent
from unfoldc.kernels.passes.fuse_results import joined, storing_what_is_read
from unfoldc.kernels.passes.matrix_vector import MatrixVector, chosen_by, matrix_vector, symmetric_matrix
from unfoldc.kernels.passes.triangle_blocks import BlockOfRows, TriangleBlocks

_FEWEST_BLOCKS = 2
_HERE = "triangle"  # stands where the products go while rows are jammed


def triangle_products(program: LoopProgram, rows: int) -> LoopProgram:
    """The program with such products, `rows` (an even number) rows at a time."""
    kept: set[str] = set()
    while True:
        work = _Work(dict(program.buffers), dict(program.constants), rows, frozenset(kept))
        changed = program.mapped(work.body)
        if not work.made:
            return program
        changed = changed.mapped(partial(storing_what_is_read, buffers=work.buffers))
        changed = reading(changed, work.buffers, work.constants)
        again = {name for name, _ in work.made} & changed.constants.keys()
        if not again:
            return changed
        kept |= again


@dataclass
class _Work:
    buffers: dict[str, Buffer]
    constants: dict[str, np.ndarray]
    rows: int
    kept: Collection[str]

    def __post_init__(self) -> None:
        self.made: dict[tuple[str, tuple[Expr, ...]], str] = {}
        self.products = 0

    def body(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        left = list(body)
        while left:
            s = left.pop(0)
            if isinstance(s, For) and all(isinstance(b, Nest) for b in s.body):
                result.append(replace(s, body=self.body(s.body)))
            elif isinstance(s, Nest) and len(s.body) == 1 and isinstance(s.body[0], For):
                result.extend(self.nest(s, s.body[0], left))
            else:
                result.append(s)
        return tuple(result)

    def nest(self, nest: Nest, loop: For, left: list[Stmt]) -> list[Stmt]:
        """The nest with its first such product, or as it is; what it takes in of the statements behind is removed."""
        for place in range(len(loop.body)):
            found = matrix_vector(loop, place, self.constants)
            form = self.form(found) if found is not None else None
            if found is not None and form is not None and rows_are_independent(loop, {}):
                return self.halved(nest, loop, place, found, form, left)
        return [nest]

    def halved(
        self, nest: Nest, loop: For, place: int, found: MatrixVector, form: TriangleBlocks, left: list[Stmt]
    ) -> list[Stmt]:
        """What sets p to 0, what fills x where it is computed on the way, the blocks, and the rows that are left."""
        dtype, name = found.matrix.dtype, f"half{self.products}"
        self.products += 1
        index, sums = Var(found.loop.var), Buffer(name, dtype, (form.order,), "scratch")
        self.buffers[name] = sums
        zero = Store(name, (index,), build.literal(0, dtype))
        x, before = found.x, []
        if found.before or not isinstance(x, Load) or not set(x.indices) <= {index, *chosen_by(x)}:
            filled = Buffer(f"{name}_x", dtype, (form.order,), "scratch")
            self.buffers[filled.name] = filled
            before = [*found.before, Store(filled.name, (index,), x)]
            x = Load(filled.name, (index,), dtype)
        matrix, lead = self.packed(found, form)
        result: list[Stmt] = [Nest((), (replace(found.loop, body=(*before, zero)),))]
        total = build.add(Local(found.sum, dtype), Load(name, (Var(loop.var),), dtype))
        body = (*loop.body[:place], Assign(found.sum, total), For(_HERE, 1, ()), *loop.body[place + 1 :])
        nest = Nest(nest.origins, (replace(loop, body=body),))
        while left and (both := _in_place(nest, left[0], found.loop.var, x)) is not None:
            nest = both
            left.pop(0)
        shell = nest.body[0]
        assert isinstance(shell, For)
        for block, count, mark in ((Var(loop.var), form.rows, ""), (None, form.rest, "r")):
            if not count:
                continue
            names = tuple(f"{found.sum}_{mark}{r}" for r in range(count))
            own = BlockOfRows(form, block, names, matrix, lead, x, index, name)
            whole: list[Stmt] = []
            for s in jam(shell, [own.row(r) for r in range(count)], mark):
                whole += own.products() if isinstance(s, For) and s.var == _HERE else [s]
            if block is None:
                result.append(Nest(nest.origins if not form.blocks else (), tuple(whole)))
            else:
                result.append(Nest(nest.origins, (replace(loop, extent=form.blocks, body=tuple(whole)),)))
        return result

    def form(self, found: MatrixVector) -> TriangleBlocks | None:
        """How the matrix is cut into blocks; None where it is not symmetric, too small, or has to stay whole."""
        matrix = symmetric_matrix(found, self.constants) if found.matrix.buffer not in self.kept else None
        if matrix is None:
            return None
        form = TriangleBlocks(matrix.shape[-1], self.rows)
        return form if form.blocks >= _FEWEST_BLOCKS else None

    def packed(self, found: MatrixVector, form: TriangleBlocks) -> tuple[str, tuple[Expr, ...]]:
        """The name of the constant with the triangle, and its first indices."""
        load, others = found.matrix, chosen_by(found.matrix)
        if (load.buffer, others) not in self.made:
            matrix = symmetric_matrix(found, self.constants)
            assert matrix is not None
            name = f"{load.buffer}_half{len(self.made)}"
            self.constants[name] = form.packed(matrix)
            self.buffers[name] = Buffer(name, load.dtype, self.constants[name].shape, "constant")
            self.made[load.buffer, others] = name
        return self.made[load.buffer, others], tuple(i for i in others if i == Var(ITERATION))


def _in_place(nest: Nest, following: Stmt, column: str, x: Load) -> Nest | None:
    """The nest and the one behind as one, where that writes to x no other place than that of its own row."""
    both = joined(nest, following)
    if both is None or not isinstance(both.body[0], For):
        return None
    row = Var(both.body[0].var)
    own = tuple(build.map_expr(i, lambda e: row if e == Var(column) else None) for i in x.indices)
    stores = [s for s in build.statements(both.body) if isinstance(s, Store) and s.buffer == x.buffer]
    return both if all(s.indices == own for s in stores) else None
