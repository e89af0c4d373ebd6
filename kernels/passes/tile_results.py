"""Jams two rows of a product of matrices, so that a block of results, rows times columns, shares what it loads.

    for i: for c: acc = 0; for j: acc += a[i, j] b[j, c]; y[i, c] = acc
becomes
    for i: for c: acc_0 = acc_1 = 0; for j: acc_0 += a[2 i, j] b[j, c]; acc_1 += a[2 i + 1, j] b[j, c]; ...
With columns jammed as well (`block_rows`), 2 x 4 results take 6 loads for 8 products where a row of 4 takes 5 for 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, loop_range
from unfoldc.kernels.loops import For, Nest, Stmt, Var
from unfoldc.kernels.passes.block_rows import block, encloses_reduction, rows_are_independent


def tile_results(body: Sequence[Stmt], rows: int, around: Ranges | None = None) -> tuple[Stmt, ...]:
    """Applies the transformation to each pair of loops over results around a sum; `around` are the loops outside."""
    ranges: Ranges = around or {}
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest):
            s = replace(s, body=tile_results(s.body, rows, ranges))
        elif isinstance(s, For) and _is_product(s, rows) and rows_are_independent(s, ranges):
            result.extend(block(s, rows))
            continue
        elif isinstance(s, For) and s.kind == "serial":
            s = replace(s, body=tile_results(s.body, rows, {**ranges, s.var: loop_range(s)}))
        result.append(s)
    return tuple(result)


def _is_product(loop: For, rows: int) -> bool:
    """Whether the sums in the loop over columns inside read some elements in every row and some in every column."""
    if not isinstance(loop.extent, int) or loop.extent < rows or len(loop.body) != 1:
        return False
    columns = loop.body[0]
    if not isinstance(columns, For) or columns.kind != "serial" or not isinstance(columns.extent, int):
        return False
    if columns.extent < 2 or not encloses_reduction(columns):
        return False
    sums = [s for s in columns.body if isinstance(s, For)]
    return all(_shared(s, loop.var) and _shared(s, columns.var) for s in sums)


def _shared(reduction: For, var: str) -> bool:
    """Whether something is loaded in each run of the reduction that is the same for all values of the variable."""
    loads = [e for s in build.statements((reduction,)) if not isinstance(s, For) for e in build.loads((s,))]
    inner = {Var(s.var) for s in build.statements((reduction,)) if isinstance(s, For)}
    varied = [{x for i in e.indices for x in build.walk(i) if isinstance(x, Var)} for e in loads]
    return any(Var(var) not in found and found & inner for found in varied)
