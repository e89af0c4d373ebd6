"""Products in a row, and factors and sums around products, are put into the order that costs least per iteration.

    B (A x)            -> (B A) x            A (m, n) and B (n', m) constant, n n' well below m (n + n')
    B (A x - q)        -> (B A) x - B q      the same, where q does not change: B q is hoisted
    B (s (A x - q))    -> s ((B A) x - B q)  s one number, perhaps one for each iteration
    B (s q)            -> s (B q)            where q does not change and s does
    Gemm(q, B, c)      -> q B + c            where c changes and q does not

as in x - mu_k Aᵀ(A x - y) with more measurements than unknowns. B A is computed in float64 and rounded once. The error
of A x, one rounding of its size, passes B in the first form; that of (B A) x is no larger, so that no digits are lost
even where A x is close to q.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels.passes.constant_products import Product, constant_product, moderate, multiplied
from unfoldc.kernels.passes.low_rank import TOLERANCE, WORTH
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.program import Node, Program


def precomputed_products(program: Program) -> Program:
    """Reorders the products of the iterations."""
    rewriter = Rewriter(program)

    def change(part: Part, node: Node) -> tuple[Node, ...] | None:
        if node.operator == "Gemm":
            return _without_sum(rewriter, part, node)
        if node.operator != "MatMul":
            return None
        for position in (0, 1):
            found = _moved_factor(rewriter, part, node, position)
            if found is not None:
                return found
        return _joined(rewriter, part, node)

    return rewriter.rewritten(change, bodies_only=True)


def _without_sum(rewriter: Rewriter, part: Part, node: Node) -> tuple[Node, ...] | None:
    """A Gemm whose product does not change, but what is added to it does."""
    if len(node.inputs) < 3 or node.inputs[2] not in part.changing or part.count < 2:
        return None
    if any(i in part.changing for i in node.inputs[:2]):
        return None
    maker, bias, beta = Maker(rewriter, part, node), node.inputs[2], float(node.attributes.get("beta", 1.0))
    rest = {k: v for k, v in node.attributes.items() if k != "beta"}
    product = maker.node("Gemm", *node.inputs[:2], **rest)
    if beta != 1.0:
        bias = maker.node("Mul", bias, maker.number(beta, bias))
    return maker.done(maker.node("Add", product, bias))


def _factor(program: Program, part: Part, name: str) -> tuple[str, str] | None:
    """s and v where a value is s v with a constant s of one element, which may differ between iterations."""
    node = part.own(name)
    if node is None or node.operator != "Mul":
        return None
    for s, v in (node.inputs, node.inputs[::-1]):
        if s in program.constants and program.types[s].size == 1 and program.types[v] == program.types[name]:
            return s, v
    return None


def _moved_factor(rewriter: Rewriter, part: Part, node: Node, position: int) -> tuple[Node, ...] | None:
    """B (s q), where B and q do not change."""
    found = _factor(rewriter.program, part, node.inputs[position])
    if found is None or part.count < 2 or found[0] not in part.changing:
        return None
    s, q = found
    inputs = (q, node.inputs[1]) if position == 0 else (node.inputs[0], q)
    if any(i in part.changing for i in inputs):
        return None
    maker = Maker(rewriter, part, node)
    return maker.done(maker.node("Mul", maker.node("MatMul", *inputs), s))


@dataclass(frozen=True)
class _Sum:
    """A x, or `operator` of it and q in the order that `first` says; all of it times `factor` if that is given."""

    product: Product
    operator: str = ""
    first: bool = True
    q: str = ""
    factor: str = ""


def _inner(program: Program, part: Part, name: str, reader: Node) -> _Sum | None:
    """What B multiplies, if nobody else reads any of it."""
    node = part.own(name)
    if node is None or part.only_reader(name) is not reader:
        return None
    product = _plain(program, part, node)
    if product is not None:
        return _Sum(product)
    scaled = _factor(program, part, name)
    if scaled is not None:
        found = _inner(program, part, scaled[1], node)
        return None if found is None or found.factor else replace(found, factor=scaled[0])
    if node.operator not in ("Add", "Sub") or part.count < 2:
        return None
    for position, (value, q) in enumerate((node.inputs, node.inputs[::-1])):
        first = part.own(value)
        product = None if first is None else _plain(program, part, first)
        alone = part.only_reader(value) is node and q not in part.changing
        if product is not None and alone and _added_along(program, q, value, product.left):
            return _Sum(product, node.operator, position == 0, q)
    return None


def _added_along(program: Program, q: str, value: str, left: bool) -> bool:
    """Whether q has vectors as long as those of `value`; that they may be fewer is no matter."""
    own, shape = program.types[q].shape, program.types[value].shape
    axis = -2 if left and len(shape) > 1 else -1
    return -axis <= len(own) <= len(shape) and own[axis] == shape[axis]


def _plain(program: Program, part: Part, node: Node) -> Product | None:
    return constant_product(program, part, node, stacked=False) if node.operator == "MatMul" else None


def _joined(rewriter: Rewriter, part: Part, node: Node) -> tuple[Node, ...] | None:
    """One product with B A, and B q hoisted, where that takes fewer multiply-adds."""
    outer = _plain(rewriter.program, part, node)
    inner = None if outer is None else _inner(rewriter.program, part, outer.x, node)
    if outer is None or inner is None or outer.left != inner.product.left:
        return None
    B, A = outer.T, inner.product.T
    moved_once = B.size / part.count if inner.q else 0.0
    if len(B) * A.shape[1] + moved_once > WORTH * (A.size + B.size):
        return None
    matrix = _product(B, A)
    if matrix is None:
        return None
    maker = Maker(rewriter, part, node)
    name = rewriter.constant(matrix, f"{node.outputs[0]} matrix")
    result = multiplied(maker, name, inner.product.x, outer.left)
    if inner.q:
        moved = maker.node("MatMul", *((node.inputs[0], inner.q) if outer.left else (inner.q, node.inputs[1])))
        result = maker.node(inner.operator, *((result, moved) if inner.first else (moved, result)))
    if inner.factor:
        result = maker.node("Mul", result, inner.factor)
    return maker.done(result)


def _product(B: np.ndarray, A: np.ndarray) -> np.ndarray | None:
    """B A, rounded once; None where it leaves the range of numbers that B (A x) may stay within."""
    if not (moderate(B) and moderate(A)):
        return None
    exact = B.astype(np.float64) @ A.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        matrix: np.ndarray = exact.astype(B.dtype)
    lost = np.linalg.norm(matrix - exact, axis=1)
    return matrix if (lost <= TOLERANCE[str(B.dtype)] * np.linalg.norm(exact, axis=1)).all() else None
