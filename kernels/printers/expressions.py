"""What the printers share: row-major positions, walks over expressions and statements, text for comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
)

INDEX_TYPES = ("int32", "int64")


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements from one position of an axis to the next, in row-major order."""
    steps: list[int] = []
    size = 1
    for n in reversed(shape):
        steps.append(size)
        size *= n
    return tuple(reversed(steps))


def flatten(indices: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The row-major position of an element, simplified; int64 where an index is, else int32."""
    dtype = "int64" if any(index.dtype == "int64" for index in indices) else "int32"
    position: Expr = Const(0, dtype)
    for index, step in zip(indices, strides(shape), strict=True):
        position = Binary("add", position, Binary("mul", Cast(index, dtype), Const(step, dtype), dtype), dtype)
    return simplify(position)


def simplify(e: Expr) -> Expr:
    """An int32 or int64 expression with constants folded and `+ 0`, `* 1`, `* 0`, `// 1`, `% 1` removed.

    Its value and its type stay; what is no sum, product, quotient or cast of integers comes back unchanged.
    """
    if e.dtype not in INDEX_TYPES:
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
        return Binary(e.operator, a, b, e.dtype)
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


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression, the indices of a load included."""
    match e:
        case Load(_, indices):
            return indices
        case Unary(_, a) | Cast(a):
            return (a,)
        case Binary(_, a, b):
            return (a, b)
        case Select(condition, a, b):
            return (condition, a, b)
        case _:
            return ()


def walk(e: Expr) -> Iterator[Expr]:
    """An expression and all its operands, outermost first."""
    yield e
    for child in children(e):
        yield from walk(child)


def statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    """All statements, nested ones after the one that holds them."""
    for statement in body:
        yield statement
        if isinstance(statement, For | Nest):
            yield from statements(statement.body)


def expressions(body: Sequence[Stmt]) -> Iterator[Expr]:
    """All expressions of a body, operands included."""
    for statement in statements(body):
        match statement:
            case Let(_, value) | Assign(_, value):
                yield from walk(value)
            case Store(_, indices, value):
                for index in indices:
                    yield from walk(index)
                yield from walk(value)


def buffers_used(body: Sequence[Stmt]) -> frozenset[str]:
    """The buffers that a body reads or writes."""
    read = {e.buffer for e in expressions(body) if isinstance(e, Load)}
    return frozenset(read | buffers_written(body))


def buffers_written(body: Sequence[Stmt]) -> frozenset[str]:
    """The buffers that a body writes."""
    return frozenset(s.buffer for s in statements(body) if isinstance(s, Store))


def operators_used(body: Sequence[Stmt]) -> frozenset[str]:
    """The unary and binary operators of a body."""
    return frozenset(e.operator for e in expressions(body) if isinstance(e, Unary | Binary))


def comment(text: str) -> str:
    """A name from a model file as it may stand in a comment: letters, digits, `_` and `.`, 40 characters."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", text)[:40]


def round_up(n: int, multiple: int) -> int:
    """The next multiple from `n` upwards."""
    return -(-n // multiple) * multiple


def _whole(e: Expr) -> bool:
    return isinstance(e, Const) and e.dtype in INDEX_TYPES


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


def _shifted(a: Expr, by: int, dtype: str) -> Expr:
    """`a + by`, merged with a constant that `a` already adds; a negative constant prints as a subtraction."""
    if isinstance(a, Binary) and a.operator in ("add", "sub") and _whole(a.b):
        by, a = by + (_value(a.b) if a.operator == "add" else -_value(a.b)), a.a
    if by == 0:
        return a
    return Binary("add" if by > 0 else "sub", a, Const(abs(by), dtype), dtype)
