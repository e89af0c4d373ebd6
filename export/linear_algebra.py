"""Exact linear algebra as functions that an ONNX file carries with it: Cholesky, SolveTriangular, Solve, Inverse.

ONNX has no such operators. A FunctionProto of domain `unfoldc` says in standard operators what each computes, so that
any ONNX runtime can run the file; a compiler that knows the name may put its own kernel in the body's place. Leading
axes are batch axes and broadcast; one body serves every size, float32 and float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from unfoldc.export.linear_algebra_bodies import FUNCTIONS
from unfoldc.export.subgraphs import bodies

DOMAIN = "unfoldc"
VERSION = 1

NAMES = tuple(FUNCTIONS)


def function(name: str, opset: int) -> onnx.FunctionProto:
    """One of the functions `NAMES`, its body in operators of that version of ONNX's operator set, 18 or later.

    A node that calls it names all attributes: not every tool knows the default of a function's attribute.

    `Cholesky` (A) -> L, A = L Lᵀ with A (..., n, n), of which the lower triangle is read, and zeros above L's diagonal.
    `SolveTriangular` (A, B) -> X, op(A) X = B with A (..., n, n), B and X (..., n, m); `upper` names the triangle of A
    that is read, `transposed` = 1 makes op(A) = Aᵀ.
    `Solve` (A, B) -> X, A X = B by LU with partial pivoting. `Inverse` (A) -> A⁻¹ by the same.
    """
    head, parts = FUNCTIONS[name]
    result: onnx.FunctionProto = onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]> {head} {{{"".join(parts)}}}'
    )
    return result


def add_functions(model: onnx.ModelProto, opset: int) -> None:
    """Give the model, in place, each function that its nodes call, once, in the order of their names."""
    called = sorted(set(_called(model.graph.node)))
    model.functions.extend(function(name, opset) for name in called)
    if called:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))


def _called(nodes: Sequence[onnx.NodeProto]) -> Iterable[str]:
    for node in nodes:
        if node.domain == DOMAIN:
            yield node.op_type
        for body in bodies(node):
            yield from _called(body.node)
