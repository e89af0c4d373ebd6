"""A product of weights that all problems share with a vector of each problem, as a library of matrix products takes it.

In the loop representation it stands in a nest of its own, whose last loop may be any of those over the results:

    for r: for i: acc = 0; for j: acc += w[i, j] x[r, j]; out[r, i] = acc

or `acc = out[r, i]` in the first place, where it is added to what is there. Over a batch it is C[R, m] = X[R, n] W^T.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.gpu.places import row_major
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import (
    ITERATION,
    Assign,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    Nest,
    Stmt,
    Store,
    Var,
)

_TYPES = ("float32", "float64")


@dataclass(frozen=True)
class Rows:
    """Rows in a buffer: elements that follow each other, `step` elements from a row's start to the next one's.

    `first` is where the first row of a problem begins; `per_iteration` is added to it times the iteration's number.
    """

    buffer: str
    first: int
    step: int
    per_iteration: int = 0


@dataclass(frozen=True)
class Product:
    """`out = sign * x w^T (+ out where adds)`, for `rows` rows of each problem.

    `weights` are m rows of n terms, or n rows of m where `transposed`; x has rows of n, out of m elements.
    """

    weights: Rows
    transposed: bool
    x: Rows
    out: Rows
    rows: int
    m: int
    n: int
    sign: int
    adds: bool
    dtype: str

    @property
    def multiply_adds(self) -> int:
        """For one problem."""
        return self.rows * self.m * self.n


@dataclass(frozen=True)
class Term:
    """What a loop adds up: `sign * w * x`; `before` are the scalars that x is made of."""

    sum: str
    w: Load
    x: Expr
    sign: int
    before: tuple[Let, ...]


def term_of(loop: Stmt, shared: Collection[str]) -> Term | None:
    """The product that a loop sums; None where it does anything else. `shared`: what is the same for all problems."""
    if not isinstance(loop, For) or not isinstance(loop.extent, int) or loop.kind != "serial" or not loop.body:
        return None
    *before, last = loop.body
    lets = tuple(s for s in before if isinstance(s, Let) and not s.mutable)
    if not isinstance(last, Assign) or len(lets) < len(before):
        return None
    match last.value:
        case Binary(("add" | "sub") as operator, Local(name), Binary("mul", a, b), dtype) if name == last.name:
            for w, x in ((a, b), (b, a)):
                if isinstance(w, Load) and w.buffer in shared and dtype == w.dtype == x.dtype and dtype in _TYPES:
                    return Term(name, w, x, 1 if operator == "add" else -1, lets)
    return None


def product_of(s: Stmt, buffers: Mapping[str, Buffer], shared: Collection[str], least: int = 0) -> Product | None:
    """The product that a nest stands for; None for another nest, or weights of less than `least` elements."""
    loops, body = [], s.body if isinstance(s, Nest) else (s,)
    while len(body) == 1 and isinstance(body[0], For):
        loops.append(body[0])
        body = body[0].body
    match body:
        case (Let(name, start, True), For() as inner, Store(out, at, Local(stored, _))) if name == stored:
            term = term_of(inner, shared)
        case _:
            return None
    if term is None or term.before or term.sum != name or not isinstance(term.x, Load):
        return None
    if out == term.x.buffer or {out, term.x.buffer} & set(shared):
        return None
    adds = start == Load(out, at, term.w.dtype)
    if not adds and not (isinstance(start, Const) and start.value == 0):
        return None
    found = _product(loops, inner, term, Load(out, at, term.w.dtype), adds, buffers)
    return found if found is not None and found.m * found.n >= least else None


def _product(
    loops: Sequence[For], inner: For, term: Term, out: Load, adds: bool, buffers: Mapping[str, Buffer]
) -> Product | None:
    extents = {loop.var: loop.extent for loop in (*loops, inner) if isinstance(loop.extent, int)}
    results = [loop.var for loop in loops if _depends(term.w, loop.var)]
    if len(extents) < len(loops) + 1 or len(results) != 1 or not isinstance(term.x, Load):
        return None
    i, j = results[0], inner.var
    leads = [loop.var for loop in loops if loop.var != i]
    w = strides(term.w, buffers[term.w.buffer], {i, j, ITERATION})
    x = rows_of(term.x, buffers[term.x.buffer], j, leads, extents)
    y = rows_of(out, buffers[out.buffer], i, leads, extents)
    if w is None or x is None or y is None:
        return None
    first, by = w
    transposed = by.get(j, 0) != 1
    step, wide = (by.get(j, 0), extents[i]) if transposed else (by.get(i, 0), extents[j])
    if by.get(i if transposed else j, 0) != 1 or step < wide:
        return None
    rows = 1
    for lead in leads:
        rows *= extents[lead]
    weights = Rows(term.w.buffer, first, step, by.get(ITERATION, 0))
    return Product(weights, transposed, x, y, rows, extents[i], extents[j], term.sign, adds, term.w.dtype)


def rows_of(load: Load, buffer: Buffer, column: str, leads: Sequence[str], extents: Mapping[str, int]) -> Rows | None:
    """Where the elements of a buffer of each problem are rows, one for each run of the loops `leads`; else None."""
    found = strides(load, buffer, {column, *leads})
    if found is None:
        return None
    first, by = found
    if by.get(column, 0) != 1:
        return None
    step = buffer.size
    for lead in leads:  # the outermost first: rows of all problems lie at equal distances
        if extents[lead] > 1:
            step, rest = divmod(step, extents[lead])
            if rest or by.get(lead, 0) != step:
                return None
    return Rows(load.buffer, first, step) if first + extents[column] <= step else None


def strides(load: Load, buffer: Buffer, variables: Collection[str]) -> tuple[int, dict[str, int]] | None:
    """The place of the first element, and how far it moves with each variable; None where it is not so simple."""
    first, by = 0, dict[str, int]()
    for index, step in zip(load.indices, row_major(buffer.shape), strict=True):
        form = linear(index)
        first += form.constant * step
        for e, factor in form.moving.items():
            if not isinstance(e, Var) or e.name not in variables:
                return None
            by[e.name] = by.get(e.name, 0) + factor * step
    return first, by


def _depends(e: Expr, var: str) -> bool:
    return any(x == Var(var) for x in build.walk(e))
