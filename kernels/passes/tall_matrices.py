"""Stores matrices of few columns column by column: their rows are too short to be vectors, their columns are not.

    for i < 100: for c < 5: acc = 0; for j < 5: acc += u[i, j] a[j, c]; v[i, c] = acc
becomes
    for i < 100: for c < 5: acc = 0; for j < 5: acc += u[j, i] a[j, c]; v[c, i] = acc
where neighbouring results along i are neighbours in memory. Inputs, outputs and constants stay as they are, and so does
what is neither the result of a product nor computed from one, or for one, at the same place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store
from unfoldc.kernels.passes.fuse_sweeps import in_whole_lines

T = TypeVar("T")
_FLOATS = ("float32", "float64")


def tall_matrices(program: LoopProgram, vector_bits: int) -> LoopProgram:
    """The program with such states and intermediate values of at least a vector's length transposed."""
    tall = {name: found for name, b in program.buffers.items() if (found := _axes(b, vector_bits))}
    axes = {name: tall[name] for name in _products(program, tall)}
    if not axes:
        return program
    buffers = dict(program.buffers)
    for name, found in axes.items():
        turned = replace(buffers[name], shape=_swapped(buffers[name].shape, *found))
        buffers[name] = in_whole_lines(turned, vector_bits // 8)
    begin, end = _transposed(program.begin, axes), _transposed(program.end, axes)
    steps = tuple(Step(s.first, s.count, _transposed(s.body, axes)) for s in program.steps)
    return replace(program, buffers=buffers, begin=begin, steps=steps, end=end)


def _axes(buffer: Buffer, vector_bits: int) -> tuple[int, int] | None:
    """The axes of its rows and columns, if it has few columns."""
    long = [axis for axis, n in enumerate(buffer.shape) if n > 1]
    if len(long) != 2 or buffer.space not in ("state", "scratch") or buffer.dtype not in _FLOATS:
        return None
    lanes = vector_bits // (8 * np.dtype(buffer.dtype).itemsize)
    rows, columns = (buffer.shape[axis] for axis in long)
    return (long[0], long[1]) if columns < lanes // 2 and rows >= lanes else None


def _products(program: LoopProgram, tall: Collection[str]) -> list[str]:
    """Those among the buffers that a nest with sums stores, and those that stand at the same place of a nest."""
    nests = [s for part in program.parts for s in part]
    found: set[str] = set()
    for s in nests:
        sums = any(isinstance(x, Assign) for x in build.statements((s,)))
        found |= {a.buffer for a in accesses((s,)) if a.stored and a.buffer in tall} if sums else set()
    before = -1
    while len(found) > before:
        before = len(found)
        for s in nests:
            places = [a for a in accesses((s,)) if a.buffer in tall]
            known = {a.indices for a in places if a.buffer in found}
            found |= {a.buffer for a in places if a.indices in known}
    return sorted(found)


def _transposed(body: Sequence[Stmt], axes: Mapping[str, tuple[int, int]]) -> tuple[Stmt, ...]:
    def change(e: Expr) -> Expr | None:
        if not isinstance(e, Load) or e.buffer not in axes:
            return None
        indices = tuple(build.map_expr(i, change) for i in e.indices)
        return Load(e.buffer, _swapped(indices, *axes[e.buffer]), e.dtype)

    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For | Nest):
            s = replace(s, body=_transposed(s.body, axes))
        else:
            s = build.map_stmt(s, change)
            if isinstance(s, Store) and s.buffer in axes:
                s = replace(s, indices=_swapped(s.indices, *axes[s.buffer]))
        result.append(s)
    return tuple(result)


def _swapped(items: tuple[T, ...], a: int, b: int) -> tuple[T, ...]:
    changed = list(items)
    changed[a], changed[b] = items[b], items[a]
    return tuple(changed)
