"""Finds stacks of matrices, one per iteration, that are one matrix with a factor per iteration.

    T_k = diag(d_k) + b_k G      b_k a number, d_k absent, one number for all k, a number per k, or a vector per k

such as mu_k Bᵀ or I - mu_k AᵀA, which a trained solver's file holds as K matrices. The K matrices become one: less
flash, less traffic, and a product b_k (G y) with an input can be hoisted. Each T_k is reproduced to about 1e-6
(float32) of its singular values' root mean square. What is not finite in x stays so: G is zero where all T_k are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.passes.constant_products import Product, along, constant_product, moderate, multiplied, replaced
from unfoldc.kernels.passes.low_rank import TOLERANCE
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.program import Node, Program

# Shorter vectors are not worth the two operations per element that the factors cost, unless the product is hoisted.
_SHORTEST = 8
_MOST = 2**25  # elements of a stack that is looked at


@dataclass(frozen=True)
class Shared:
    """d is None, one number (), a number per iteration (K,) or a vector per iteration (K, n); b is (K,)."""

    d: np.ndarray | None
    b: np.ndarray
    G: np.ndarray

    def matrices(self) -> np.ndarray:
        """All T_k in float64, (K, results, length)."""
        found: np.ndarray = self.b.astype(np.float64)[:, None, None] * self.G.astype(np.float64)
        if self.d is None:
            return found
        d = np.broadcast_to(self.d.astype(np.float64).reshape(-1, *self.d.shape[1:] or (1,)), found.shape[:2])
        return found + d[..., None] * np.eye(found.shape[1])


def shared_matrices(program: Program) -> Program:
    """Replaces products with such stacks."""
    rewriter = Rewriter(program)

    def change(part: Part, node: Node) -> tuple[Node, ...] | None:
        product = constant_product(program, part, node, stacked=True)
        if product is None or part.count < 2:
            return None
        if product.T.shape[-1] < _SHORTEST and product.x in part.changing:
            return None
        found = shared_matrix(product.T)
        return None if found is None else _apply(rewriter, part, node, product, found)

    return rewriter.rewritten(change, bodies_only=True)


def _apply(rewriter: Rewriter, part: Part, node: Node, product: Product, found: Shared) -> tuple[Node, ...] | None:
    name, left = node.inputs[0 if product.left else 1], product.left

    def apply(maker: Maker, x: str) -> str:
        result = multiplied(maker, rewriter.constant(found.G, f"{name} shared"), x, left)
        if (found.b != found.b[0]).any():
            result = maker.node("Mul", result, rewriter.constant(found.b, f"{name} factor", part))
        if found.d is None:
            return result
        own, d = x, found.d
        if d.ndim or d != 1:
            d = along(d, rewriter.types[x], left) if d.ndim == 2 else d
            own = maker.node("Mul", x, rewriter.constant(d, f"{name} diagonal", part if d.ndim else None))
        return maker.node("Add", own, result)

    return replaced(rewriter, part, node, product, apply)


def shared_matrix(stack: np.ndarray) -> Shared | None:
    """The factors of a stack (K, results, length), None if its matrices have no such form."""
    tolerance = TOLERANCE.get(str(stack.dtype))
    if tolerance is None or stack.size > _MOST or not moderate(stack) or not _may_share(stack):
        return None
    exact = stack.astype(np.float64)
    plain = _factored(exact, stack.dtype, None)
    if _fits(plain, exact, tolerance):
        return plain
    if exact.shape[1] != exact.shape[2]:
        return None
    diagonals = np.diagonal(exact, axis1=1, axis2=2)
    off = exact * (1 - np.eye(exact.shape[1]))
    if not off.any():
        return None
    b, _ = _leading(off)
    for d in _diagonals(b, diagonals):
        whole = d.reshape(-1, *d.shape[1:] or (1,)).astype(stack.dtype).astype(np.float64)
        spread = np.broadcast_to(whole, diagonals.shape)
        found = _factored(exact - spread[..., None] * np.eye(exact.shape[1]), stack.dtype, d.astype(stack.dtype), b)
        if _fits(found, exact, tolerance):
            return found
    return None


def _may_share(stack: np.ndarray) -> bool:
    """Whether some entries off the diagonal are, to three digits, one vector with a factor per iteration."""
    rng = np.random.default_rng(0)
    rows, columns = (rng.integers(0, n, 256) for n in stack.shape[1:])
    some = stack[:, rows, columns][:, rows != columns].astype(np.float64)
    if not some.size or not np.isfinite(some).all():
        return bool(some.size == 0)
    b, first = _leading(some) if some.any() else (np.zeros(len(some)), some[0])
    return bool(np.abs(some - b[:, None] * first).max() <= 1e-3 * np.abs(some).max())


def _leading(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """b and G with stack[k] close to b[k] G, where G is the largest of the matrices."""
    flat = stack.reshape(len(stack), -1)
    first = flat[int(np.argmax((flat * flat).sum(1)))]
    return flat @ first / (first @ first), first.reshape(stack.shape[1:])


def _factored(stack: np.ndarray, dtype: np.dtype, d: np.ndarray | None, b: np.ndarray | None = None) -> Shared:
    """The factors of what is left of the matrices without their diagonals d; G is their mean, weighted by b."""
    if b is None:
        b = _leading(stack)[0] if stack.any() else np.ones(len(stack))
    G = np.tensordot(b, stack, 1) / (b @ b)
    return Shared(d, b.astype(dtype), G.astype(dtype))


def _diagonals(b: np.ndarray, diagonals: np.ndarray) -> list[np.ndarray]:
    """What may be added to b_k G on the diagonal, the simplest first: a number, one per iteration, a vector for each.

    The mean of each diagonal is a_k + b_k g; a number a common to all is tried first.
    """
    mean = diagonals.mean(1)
    columns = np.stack([np.ones(len(b)), b], 1)
    (a, g), *_ = np.linalg.lstsq(columns, mean, rcond=None)
    near = np.round(a)
    numbers = [np.array(near)] if abs(a - near) < 1e-5 else []
    return [*numbers, np.array(a), mean - b * g, diagonals.copy()]


def _fits(found: Shared, exact: np.ndarray, tolerance: float) -> bool:
    """Whether every matrix is reproduced, in the Frobenius norm, which bounds the spectral one from above."""
    error = np.sqrt(((found.matrices() - exact) ** 2).sum((1, 2)))
    size = np.sqrt((exact**2).sum((1, 2)) / min(exact.shape[1:]))
    return bool((error <= 4 * tolerance * size).all())
