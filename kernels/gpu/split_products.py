"""Gives products with large weights nests of their own, and joins what is left of the nests around them.

    for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc)
becomes
    for i: acc = 0; for j: acc += w[i, j] x[j]; p[i] = acc
    for i: y[i] = f(p[i])
The program computes what it did, to the order of sums; `product_of` recognises the nests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels.accesses import reads
from unfoldc.kernels.gpu.nest_products import NestProducts
from unfoldc.kernels.gpu.product import product_of
from unfoldc.kernels.loops import Buffer, LoopProgram, Stmt
from unfoldc.kernels.passes.fuse_results import fuse_results


def split_products(program: LoopProgram, shared: Collection[str], least: int) -> LoopProgram:
    """The program with products apart whose weights, of a buffer in `shared`, are at least `least` elements."""
    buffers = dict(program.buffers)

    def part(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        apart = [piece for s in body for piece in NestProducts(buffers, shared, least).split(s)]
        return _rest_joined(apart, buffers, shared, least)

    split = program.mapped(part)
    return replace(split, buffers=buffers)


def _rest_joined(
    body: Sequence[Stmt], buffers: Mapping[str, Buffer], shared: Collection[str], least: int
) -> tuple[Stmt, ...]:
    """What stands between products joined, so that values stay in registers where that is possible."""
    pieces: list[list[Stmt]] = [[]]
    for s in body:
        if product_of(s, buffers, shared, least) is None:
            pieces[-1].append(s)
        else:
            pieces += [[s], []]
    result: list[Stmt] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            result += piece
            continue
        read = set().union(*(reads(other) for other in pieces if other is not piece))
        kept = {n: replace(b, space="state") if n in read and b.space == "scratch" else b for n, b in buffers.items()}
        result += fuse_results(piece, kept)
    return tuple(result)
