"""Indices: what they depend on, which values they take, and the position in row-major memory as a short sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unfoldc.kernels.build import walk
from unfoldc.kernels.index_bounds import Ranges, bounds
from unfoldc.kernels.loops import Binary, Cast, Const, Expr, Load, Local, Unary


def depends_on_data(e: Expr) -> bool:
    """Whether the expression reads memory or a scalar, so that its value is not known when compiling."""
    return any(isinstance(x, Load | Local) for x in walk(e))


def never_negative(e: Expr, ranges: Ranges) -> bool:
    """Whether an integer expression of loop variables is at least 0 for all their values."""
    if any(isinstance(x, Load | Local | Unary | Cast) for x in walk(e)):
        return False
    return bounds(e, ranges)[0] >= 0


def linear(indices: Sequence[Expr], shape: Sequence[int], term: Callable[[Expr, bool], str]) -> str:
    """The row-major position of an element, as a sum of terms `(name * factor)` and a constant.

    `term` prints what is neither sum nor product; the flag says that the whole position is this one term.
    """
    factors: dict[Expr, int] = {}
    constant, stride = 0, 1
    for index, n in reversed(list(zip(indices, shape, strict=True))):
        own: dict[Expr, int] = {}
        constant += _collect(index, stride, own)
        for e, factor in factors.items():
            own[e] = own.get(e, 0) + factor
        factors = own
        stride *= n
    terms = {e: factor for e, factor in factors.items() if factor}
    alone = len(terms) == 1 and not constant
    parts = [(_product(e, factor, term, alone and factor > 0), factor > 0) for e, factor in terms.items()]
    if constant or not parts:
        parts.append((str(abs(constant)), constant >= 0))
    parts.sort(key=lambda part: not part[1])  # a sum that starts with a minus is hard to read
    first = parts[0][0] if parts[0][1] else f"-{parts[0][0]}"
    return "".join([first, *(f" {'+' if plus else '-'} {part}" for part, plus in parts[1:])])


def _product(e: Expr, factor: int, term: Callable[[Expr, bool], str], alone: bool) -> str:
    if abs(factor) == 1:
        return term(e, alone)
    product = f"{term(e, False)} * {abs(factor)}"
    return product if alone else f"({product})"


def _collect(e: Expr, factor: int, factors: dict[Expr, int]) -> int:
    """Adds the terms of `e * factor`, and returns its constant part."""
    if isinstance(e, Const):
        return int(e.value) * factor
    if isinstance(e, Cast) and e.a.dtype in ("int32", "int64"):
        return _collect(e.a, factor, factors)
    if isinstance(e, Binary) and e.operator in ("add", "sub"):
        sign = 1 if e.operator == "add" else -1
        return _collect(e.a, factor, factors) + _collect(e.b, sign * factor, factors)
    if isinstance(e, Binary) and e.operator == "mul":
        for a, b in ((e.a, e.b), (e.b, e.a)):
            if isinstance(b, Const):
                return _collect(a, int(b.value) * factor, factors)
    factors[e] = factors.get(e, 0) + factor
    return 0
