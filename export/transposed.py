"""Triangular systems with a transposed matrix, without the Transpose: `SolveTriangular` has an attribute for that."""

from __future__ import annotations

from dataclasses import replace

import onnx

from unfoldc.export.linear_algebra import DOMAIN
from unfoldc.export.listing import Listing, Op
from unfoldc.export.subgraphs import canonical


def use_transposed(listing: Listing) -> Listing:
    """Every SolveTriangular that reads Aᵀ reads A and says so: op(Aᵀ) with one triangle is opᵀ(A) with the other."""
    producers = listing.producers()
    ops = []
    for op in listing.ops:
        source = listing.ops[producers[op.reads[0]]] if op.reads and op.reads[0] in producers else None
        if op.kind == "SolveTriangular" and op.proto.domain == DOMAIN and source is not None and _swaps_last(source):
            op = _turned(op, source.reads[0])
        ops.append(op)
    return replace(listing, ops=tuple(ops))


def _swaps_last(op: Op) -> bool:
    """Whether the operation exchanges the last two axes and no others."""
    if op.kind != "Transpose":
        return False
    order = next((list(a.ints) for a in op.proto.attribute if a.name == "perm"), [])
    axes = list(range(len(order)))
    return len(order) > 1 and order == [*axes[:-2], axes[-1], axes[-2]]


def _turned(op: Op, matrix: str) -> Op:
    proto = onnx.NodeProto()
    proto.CopyFrom(op.proto)
    for attribute in proto.attribute:
        attribute.i = 1 - attribute.i
    return replace(op, attributes=canonical(proto), reads=(matrix, *op.reads[1:]), proto=proto)
