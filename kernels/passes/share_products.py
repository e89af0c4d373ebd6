"""A product of three numbers is made from a product of two of them that is there already.

    p = a b; .. q = u a; r = q b
becomes
    p = a b; .. r = u p
One multiplication less, which also waited for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, Expr, Let, Load, Local, Stmt, Store


def share_products(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body with such products among its scalars; q, which nothing reads any more, is left to the printer."""
    result = list(body)
    for i, s in enumerate(body):
        for u, a, b, q in _triples(result[:i], s):
            found = _product(result, i, a, b)
            if isinstance(s, Let) and found not in (None, q) and _reads(body, q) == 1:
                result[i] = replace(s, value=build.mul(u, found))
                break
    return tuple(result)


def _factors(s: Stmt) -> tuple[Expr, Expr] | None:
    """What a scalar is the product of, if it is one and stays."""
    if not isinstance(s, Let) or s.mutable or not isinstance(s.value, Binary):
        return None
    floats = s.value.operator == "mul" and s.value.dtype.startswith("float")
    return (s.value.a, s.value.b) if floats else None


def _triples(before: Sequence[Stmt], s: Stmt) -> Iterator[tuple[Expr, Expr, Expr, Local]]:
    """u, a, b and q where the scalar is q b and q is u a, or a u."""
    products = {Local(p.name, p.value.dtype): f for p in before if isinstance(p, Let) and (f := _factors(p))}
    first, second = _factors(s) or (None, None)
    for q, b in ((first, second), (second, first)):
        if isinstance(q, Local) and b is not None and q in products:
            u, a = products[q]
            yield u, a, b, q
            yield a, u, b, q


def _product(body: Sequence[Stmt], here: int, a: Expr, b: Expr) -> Local | None:
    """The scalar in front of statement `here` that is a b, made of what has the same values there."""
    parts = [*build.walk(a), *build.walk(b)]
    inside = build.statements(tuple(body))
    changed = {s.name for s in inside if isinstance(s, Assign)}
    if any(isinstance(e, Local) and e.name in changed for e in parts):
        return None
    for j, s in enumerate(body[:here]):
        if isinstance(s, Let) and _factors(s) in ((a, b), (b, a)):
            stored = {t.buffer for t in build.statements(tuple(body[j:here])) if isinstance(t, Store)}
            if not any(isinstance(e, Load) and e.buffer in stored for e in parts):
                return Local(s.name, s.value.dtype)
    return None


def _reads(body: Sequence[Stmt], scalar: Local) -> int:
    return sum(e == scalar for e in build.within(body))
