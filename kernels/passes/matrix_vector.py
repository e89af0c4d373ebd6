"""Recognises the product of a constant matrix with a vector in a loop over its results.

for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import writes
from unfoldc.kernels.loops import ITERATION, Assign, Binary, Const, Expr, For, Let, Load, Local, Stmt, Var
from unfoldc.kernels.passes.symmetric import symmetrised


@dataclass(frozen=True)
class MatrixVector:
    """One sum over a row of a matrix: its loop, the matrix, and x with the scalars that it is made of."""

    loop: For
    sum: str
    matrix: Load
    before: tuple[Stmt, ...]
    x: Expr


def chosen_by(load: Load) -> tuple[Expr, ...]:
    """The indices that choose a matrix among several: numbers, or the iteration's."""
    return tuple(i for i in load.indices if isinstance(i, Const) or i == Var(ITERATION))


def _matrix(load: Load, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """The matrix that is read; one for each iteration if they differ."""
    at = [a for a, i in enumerate(load.indices) if i not in chosen_by(load)]
    whole = np.moveaxis(constants[load.buffer], at, (-2, -1))
    return whole[tuple(int(i.value) if isinstance(i, Const) else slice(None) for i in chosen_by(load))]


def symmetric_matrix(found: MatrixVector, constants: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The matrix of a product, or those of all iterations, `symmetrised`; None where one is not symmetric or whole."""
    matrix = _matrix(found.matrix, constants)
    return symmetrised(matrix) if matrix.shape[-1] == matrix.shape[-2] == found.loop.extent else None


def matrix_vector(rows: For, place: int, constants: Collection[str]) -> MatrixVector | None:
    """The sum over j of `w[i, j] x` at a place in the body of the loop over i; None if something else stands there."""
    loop = rows.body[place]
    if not isinstance(loop, For) or not loop.body or loop.extent != rows.extent:
        return None
    *before, last = loop.body
    if not isinstance(last, Assign) or any(not isinstance(s, Let) or s.mutable for s in before):
        return None
    match last.value:
        case Binary("add", Local(name), Binary("mul", a, b)) if name == last.name:
            for w, x in ((a, b), (b, a)):
                matrix = isinstance(w, Load) and w.buffer in constants and _is_square(w, rows.var, loop.var)
                if isinstance(w, Load) and matrix and _same_for_all((*before, Let("x", x)), rows):
                    return MatrixVector(loop, name, w, tuple(before), x)
    return None


def _is_square(w: Load, row: str, column: str) -> bool:
    """Whether each element of a matrix is read once, row by row or column by column."""
    places = [i for i in w.indices if i not in chosen_by(w)]
    return w.dtype.startswith("float") and places in ([Var(row), Var(column)], [Var(column), Var(row)])


def _same_for_all(body: tuple[Stmt, ...], rows: For) -> bool:
    """Whether scalars have the same values in all runs of the loop, and before it: nothing that it makes is read."""
    declared = {s.name for s in body if isinstance(s, Let)}
    written = writes(rows.body)
    parts = build.within(body)
    return not any(
        e == Var(rows.var)
        or (isinstance(e, Local) and e.name not in declared)
        or (isinstance(e, Load) and e.buffer in written)
        for e in parts
    )
