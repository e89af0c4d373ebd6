"""Finds constant matrices that are a multiple of the identity, or a diagonal, plus a matrix of low rank.

    T = diag(d) + Uᵀ S V      d one number or n of them, U (r, results), V (r, length), S one sign per row

costs r (results + length) + n multiply-adds in place of results · length: I - mu AᵀA and (AᵀA + rho I)⁻¹ with a wide A
are of this kind. A symmetric T has U = V, which is stored once.

The factors are found in float64 and rounded to the type of T. They replace T only where T - diag(d) - Uᵀ S V is at
most 1e-6 (float32) of T in the spectral norm, a few roundings. Terms that were much larger than T could not be that
exact, so that the sum loses no digits either. A NaN or Inf in x reaches every element, as it does through T.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.passes.constant_products import Product, along, constant_product, moderate, multiplied, replaced
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.passes.symmetric import symmetric
from unfoldc.kernels.program import Node, Program

TOLERANCE = {"float32": 1e-6, "float64": 1e-13}

# The factored form must need fewer multiply-adds than this share of the product's: two loops cost more than one.
WORTH = 0.8
_SAVED = 256  # multiply-adds per product; fewer are eaten up by the second loop
_SHORTEST = 8
_LONGEST = 1024
_LONGEST_VECTOR = 512
_WORK = 1_200_000_000  # multiply-adds of one pass over all matrices that are looked at: about a second


@dataclass(frozen=True)
class LowRank:
    """The factors in the type of the matrix. d is empty (), one number () or a vector; V is None where it is U."""

    d: np.ndarray | None
    U: np.ndarray
    V: np.ndarray | None
    signs: np.ndarray

    def matrix(self) -> np.ndarray:
        """T in float64."""
        U = self.U.astype(np.float64)
        V = U if self.V is None else self.V.astype(np.float64)
        low: np.ndarray = U.T @ (self.signs[:, None] * V)
        if self.d is None:
            return low
        return np.asarray(low + np.diag(np.broadcast_to(self.d.astype(np.float64), len(low))))


def low_rank_products(program: Program) -> Program:
    """Replaces products with such matrices in the iterations."""
    rewriter = Rewriter(program)
    work: dict[str, int] = {}

    def change(part: Part, node: Node) -> tuple[Node, ...] | None:
        product = constant_product(program, part, node, stacked=False)
        if product is None:
            return None
        work[node.inputs[0 if product.left else 1]] = product.T.size * min(product.T.shape)
        found = low_rank(product.T) if sum(work.values()) <= _WORK else None
        return None if found is None else _apply(rewriter, part, node, product, found)

    return rewriter.rewritten(change, bodies_only=True)


def _apply(rewriter: Rewriter, part: Part, node: Node, product: Product, found: LowRank) -> tuple[Node, ...] | None:
    name, left = node.inputs[0 if product.left else 1], product.left

    def apply(maker: Maker, x: str) -> str:
        U = rewriter.constant(found.U, f"{name} U")
        V = U if found.V is None else rewriter.constant(found.V, f"{name} V")
        inner = multiplied(maker, V, x, left)
        total = "Add"
        if found.signs.min() < 0:
            if found.d is not None and found.signs.max() < 0:
                total = "Sub"
            else:
                signs = along(found.signs, rewriter.types[inner], left)
                inner = maker.node("Mul", inner, rewriter.constant(signs, f"{name} signs"))
        outer = multiplied(maker, U, inner, left, transpose=True)
        if found.d is None:
            return outer
        own = x
        if found.d.ndim or found.d != 1:
            d = along(found.d, rewriter.types[x], left) if found.d.ndim else found.d
            own = maker.node("Mul", x, rewriter.constant(d, f"{name} diagonal"))
        return maker.node(total, own, outer)

    return replaced(rewriter, part, node, product, apply)


_FOUND: dict[object, LowRank | None] = {}  # programs of one model, read for 1, 2 and 7 problems, have the same matrices


def low_rank(T: np.ndarray, worth: float = WORTH) -> LowRank | None:
    """The factors of T, None if it has none that need fewer than `worth` of its multiply-adds."""
    digest = hashlib.sha256(np.ascontiguousarray(T).tobytes()).digest()
    key = (str(T.dtype), T.shape, digest, worth)
    if key not in _FOUND:
        if len(_FOUND) >= 64:
            _FOUND.clear()
        _FOUND[key] = _search(T, worth)
    return _FOUND[key]


def _search(T: np.ndarray, worth: float) -> LowRank | None:
    rows, columns = T.shape
    tolerance = TOLERANCE.get(str(T.dtype))
    if tolerance is None or min(T.shape) < _SHORTEST or max(T.shape) > _LONGEST or not moderate(T):
        return None
    exact = T.astype(np.float64)
    size = _norm(exact)
    most = int((min(worth * T.size, T.size - _SAVED) - (rows if rows == columns else 0)) / (rows + columns))
    if size == 0 or most < 1:
        return None
    rng = np.random.default_rng(0)
    if rows != columns:
        return _fitted(T, None, _rank(exact, size * tolerance), most, size)
    order = rng.permutation(rows)
    half = rows // 2
    # A diagonal takes no part in this block, whose rank that of the whole is not below.
    rank = _rank(exact[np.ix_(order[:half], order[half:])], size * tolerance)
    if rank > most:
        return None
    for d in _diagonals(exact, order, rank, size * tolerance):
        found = _fitted(T, d, rank, most, size)
        if found is not None:
            return found
    return None


def _diagonals(T: np.ndarray, order: np.ndarray, rank: int, small: float) -> Iterator[np.ndarray | None]:
    """Diagonals that T may have besides its part of low rank, the cheapest first: none, 1, one number, a vector."""
    n = len(T)
    yield None
    yield np.array(1.0)
    side = min(max(rank + 2, n // 3), (n - 1) // 2)
    vector = np.full(n, np.nan)
    for turn in range(0, n, max(1, n - 2 * side)):
        # Rows I, columns J and i not among them: [[T_IJ, T_Ii], [T_iJ, T_ii - d_i]] has no more rank than T_IJ.
        turned = np.roll(order, -turn)
        rest, I, J = turned[: n - 2 * side], turned[n - 2 * side : n - side], turned[n - side :]  # noqa: E741
        U, s, V = np.linalg.svd(T[np.ix_(I, J)])
        keep = s > small
        solved = (T[np.ix_(rest, J)] @ V[keep].T) / s[keep] @ (U[:, keep].T @ T[np.ix_(I, rest)])
        vector[rest] = np.diag(T[np.ix_(rest, rest)] - solved)
        if turn == 0:
            yield _refined(T, float(np.median(vector[rest])), rank)
            if n > _LONGEST_VECTOR or 3 * side > n + 2:
                return
    yield vector


def _refined(T: np.ndarray, c: float, rank: int) -> np.ndarray:
    """The number that T is on what its part of low rank leaves alone."""
    Q = _range(T - c * np.eye(len(T)), rank)
    return np.array((np.trace(T) - np.trace(Q.T @ T @ Q)) / (len(T) - Q.shape[1]))


def _fitted(T: np.ndarray, d: np.ndarray | None, rank: int, most: int, size: float) -> LowRank | None:
    """The factors of T - diag(d), checked; None if they do not reproduce T or its rank is too high."""
    dtype, exact, small = T.dtype, T.astype(np.float64), size * TOLERANCE[str(T.dtype)]
    if rank > most or (d is not None and not np.isfinite(d).all()):
        return None
    rest = exact if d is None else exact - np.diag(np.broadcast_to(np.asarray(d.astype(dtype), np.float64), len(T)))
    Q = _range(rest, min(rank + 8, min(T.shape)))
    inner = Q.T @ rest
    if _norm(rest - Q @ inner) > small:
        return None
    if symmetric(T, TOLERANCE[str(dtype)]):
        values, vectors = np.linalg.eigh((inner @ Q + (inner @ Q).T) / 2)
        keep = np.flatnonzero(np.abs(values) > small / 2)
        U = (Q @ vectors[:, keep] * np.sqrt(np.abs(values[keep]))).T.astype(dtype)
        found = LowRank(_typed(d, dtype), U, None, np.sign(values[keep]).astype(dtype))
    else:
        W, s, V = np.linalg.svd(inner, full_matrices=False)
        keep = np.flatnonzero(s > small / 2)
        root = np.sqrt(s[keep])
        left, right = (Q @ W[:, keep] * root).T.astype(dtype), (V[keep] * root[:, None]).astype(dtype)
        found = LowRank(_typed(d, dtype), left, right, np.ones(len(keep), dtype))
    fits = 0 < len(found.signs) <= most and _norm(found.matrix() - exact) <= small
    return found if fits else None


def _typed(d: np.ndarray | None, dtype: np.dtype) -> np.ndarray | None:
    return None if d is None else np.asarray(d, dtype)


def _rank(A: np.ndarray, small: float) -> int:
    return int((np.linalg.svd(A, compute_uv=False) > small).sum())


def _range(A: np.ndarray, rank: int) -> np.ndarray:
    """An orthonormal basis (rows, rank) of nearly all that A maps to: Halko, Martinsson and Tropp, 2011."""
    rng = np.random.default_rng(1)
    Q, _ = np.linalg.qr(A @ (A.T @ (A @ rng.standard_normal((A.shape[1], rank)))))
    return np.asarray(Q)


def _norm(A: np.ndarray) -> float:
    """The spectral norm, from below, by some steps of the power method."""
    x = np.random.default_rng(2).standard_normal((A.shape[1], 4))
    for _ in range(12):
        scale = np.linalg.norm(x, axis=0)
        x = A.T @ (A @ (x / np.where(scale > 0, scale, 1)))
    return float(np.sqrt(np.linalg.norm(x, axis=0).max()))
