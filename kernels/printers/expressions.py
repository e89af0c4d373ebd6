"""What several printers need of expressions and bodies: row-major positions, simplified, and the buffers in use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.loops import Binary, Cast, Const, Expr, Load, Local

_INDEX_TYPES = ("int32", "int64")


def flatten(indices: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The row-major position of an element, simplified; int64 where an index is, else int32."""
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return strided(indices, steps)


def strided(indices: Sequence[Expr], steps: Sequence[int]) -> Expr:
    """The position of an element by the distance between two places along each axis; its type as of `flatten`."""
    dtype = "int64" if any(index.dtype == "int64" for index in indices) else "int32"
    position: Expr = Const(0, dtype)
    for index, step in zip(reversed(indices), reversed(steps), strict=True):
        position = Binary("add", Binary("mul", Cast(index, dtype), Const(step, dtype), dtype), position, dtype)
    return simplify(position)


def bounded(indices: Sequence[Expr], shape: Sequence[int]) -> tuple[Expr, ...]:
    """The indices, with those that come from data cut to their axis: no input may lead outside an array."""
    return tuple(_cut(index, n) if _from_data(index) else index for index, n in zip(indices, shape, strict=True))


def simplify(e: Expr) -> Expr:
    """An int32 or int64 expression with constants folded and `+ 0`, `* 1`, `* 0`, `// 1`, `% 1` removed.

    Its value and its type stay; what is no sum, product, quotient or cast of integers comes back unchanged.
    """
    if e.dtype not in _INDEX_TYPES:
        return e
    if isinstance(e, Cast):
        a = simplify(e.a)
        if a.dtype == e.dtype:
            return a
        return Const(_value(a), e.dtype) if _whole(a) else Cast(a, e.dtype)
    if not isinstance(e, Binary):
        return e
    a, b = simplify(e.a), simplify(e.b)
    if e.operator in ("add", "mul") and _whole(a):
        a, b = b, a
    if not _whole(b):
        return _regrouped(e.operator, a, b, e.dtype)
    n = _value(b)
    if _whole(a) and (folded := _fold(e.operator, _value(a), n)) is not None:
        return Const(folded, e.dtype)
    match e.operator, n:
        case "add", _:
            return _shifted(a, n, e.dtype)
        case "sub", _:
            return _shifted(a, -n, e.dtype)
        case (("mul" | "floordiv"), 1):
            return a
        case ("mul", 0) | ("mod", 1):
            return Const(0, e.dtype)
    return Binary(e.operator, a, b, e.dtype)


def round_up(n: int, multiple: int) -> int:
    """The next multiple from `n` upwards."""
    return -(-n // multiple) * multiple


def _from_data(index: Expr) -> bool:
    return any(isinstance(e, Load | Local) for e in build.walk(index))


def _cut(index: Expr, n: int) -> Expr:
    dtype = index.dtype
    return Binary("min", Binary("max", index, Const(0, dtype), dtype), Const(n - 1, dtype), dtype)


def _whole(e: Expr) -> bool:
    return isinstance(e, Const) and e.dtype in _INDEX_TYPES


def _value(e: Expr) -> int:
    assert isinstance(e, Const)
    return int(e.value)


def _fold(operator: str, a: int, b: int) -> int | None:
    match operator:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "floordiv" if b:
            return a // b
        case "mod" if b:
            return a % b
    return None


def _regrouped(operator: str, a: Expr, b: Expr, dtype: str) -> Expr:
    """`a + (b + c)` as `(a + b) + c`, which needs no brackets."""
    if operator == "add" and isinstance(b, Binary) and b.operator in ("add", "sub"):
        return simplify(Binary(b.operator, Binary("add", a, b.a, dtype), b.b, dtype))
    return Binary(operator, a, b, dtype)


def _shifted(a: Expr, by: int, dtype: str) -> Expr:
    """`a + by`, merged with a constant that `a` already adds; a negative constant prints as a subtraction."""
    if isinstance(a, Binary) and a.operator in ("add", "sub") and _whole(a.b):
        by, a = by + (_value(a.b) if a.operator == "add" else -_value(a.b)), a.a
    if by == 0:
        return a
    return Binary("add" if by > 0 else "sub", a, Const(abs(by), dtype), dtype)
