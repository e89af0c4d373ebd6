"""Constructors and walks for loop-level expressions; index arithmetic on literals is carried out at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import is_

from unfoldc.kernels.loops import (
    COMPARISONS,
    ITERATION,
    Assign,
    Binary,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)

ZERO = Const(0, "int32")
_LEAVES = frozenset({Const, Var, Local})  # compiling spends its time in walks; most of what they meet is one of these


def index(value: int) -> Const:
    """An integer literal for an index."""
    return Const(int(value), "int32")


def literal(value: float | int | bool, dtype: str) -> Const:
    """A literal of an element type."""
    if dtype == "bool":
        return Const(bool(value), dtype)
    return Const(int(value) if dtype.startswith(("int", "uint")) else float(value), dtype)


def binary(operator: str, a: Expr, b: Expr) -> Expr:
    """`a operator b`; the result has a's type, or bool for a comparison."""
    if a.dtype == "int32" and b.dtype == "int32":
        folded = _fold_index(operator, a, b)
        if folded is not None:
            return folded
    dtype = "bool" if operator in COMPARISONS else a.dtype
    return Binary(operator, a, b, dtype)


def add(a: Expr, b: Expr) -> Expr:
    """`a + b`."""
    return binary("add", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    """`a - b`."""
    return binary("sub", a, b)


def mul(a: Expr, b: Expr) -> Expr:
    """`a * b`."""
    return binary("mul", a, b)


def unary(operator: str, a: Expr) -> Expr:
    """`operator a`; of a's type, or bool for `not` and `isnan`."""
    return Unary(operator, a, "bool" if operator in ("not", "isnan") else a.dtype)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """`a` where the condition holds, else `b`; of a's type."""
    return Select(condition, a, b, a.dtype)


def cast(a: Expr, dtype: str) -> Expr:
    """`a` converted to `dtype`; itself where it has that type, or has been widened from it."""
    if isinstance(a, Cast) and (a.a.dtype, a.dtype, dtype) == ("int32", "int64", "int32"):
        return a.a
    return a if a.dtype == dtype else Cast(a, dtype)


def _fold_index(operator: str, a: Expr, b: Expr) -> Expr | None:
    x = a.value if isinstance(a, Const) else None
    y = b.value if isinstance(b, Const) else None
    if x is not None and y is not None:
        table: dict[str, Callable[[], int]] = {
            "add": lambda: int(x + y),
            "sub": lambda: int(x - y),
            "mul": lambda: int(x * y),
            "floordiv": lambda: int(x // y),
            "mod": lambda: int(x % y),
        }
        return index(table[operator]()) if operator in table else None
    if operator == "add" and x == 0:
        return b
    if operator in ("add", "sub") and y == 0:
        return a
    if operator == "mul" and (x == 0 or y == 0):
        return ZERO
    if operator == "mul" and x == 1:
        return b
    if operator in ("mul", "floordiv") and y == 1:
        return a
    if operator == "mod" and y == 1:
        return ZERO
    return None


def map_expr(e: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """Rebuilds an expression: `change` may replace a node (whose children are then left alone) or return None."""
    new = change(e)
    if new is not None:
        return new
    if type(e) in _LEAVES:
        return e
    match e:  # what does not change stays the same object
        case Binary():
            a, b = map_expr(e.a, change), map_expr(e.b, change)
            folded = _fold_index(e.operator, a, b) if a.dtype == "int32" and b.dtype == "int32" else None
            if folded is not None:
                return folded
            return e if a is e.a and b is e.b else Binary(e.operator, a, b, e.dtype)
        case Load():
            indices = tuple([map_expr(i, change) for i in e.indices])
            return e if all(map(is_, indices, e.indices)) else Load(e.buffer, indices, e.dtype)
        case Unary():
            a = map_expr(e.a, change)
            return e if a is e.a else Unary(e.operator, a, e.dtype)
        case Select():
            condition, a, b = (map_expr(part, change) for part in (e.condition, e.a, e.b))
            same = condition is e.condition and a is e.a and b is e.b
            return e if same else Select(condition, a, b, e.dtype)
        case Cast():
            a = map_expr(e.a, change)
            return e if a is e.a else Cast(a, e.dtype)
    return e


def map_stmt(s: Stmt, change: Callable[[Expr], Expr | None]) -> Stmt:
    """Applies `map_expr` to every expression of a statement."""
    if isinstance(s, Let):
        return Let(s.name, map_expr(s.value, change), s.mutable, s.placed)
    if isinstance(s, Assign):
        return Assign(s.name, map_expr(s.value, change))
    if isinstance(s, Store):
        return Store(s.buffer, tuple(map_expr(i, change) for i in s.indices), map_expr(s.value, change))
    if isinstance(s, For):
        return For(s.var, map_extent(s.extent, change), tuple(map_stmt(b, change) for b in s.body), s.kind)
    return Nest(s.origins, tuple(map_stmt(b, change) for b in s.body))


def map_extent(extent: int | Expr, change: Callable[[Expr], Expr | None]) -> int | Expr:
    """Applies `map_expr` to the extent of a loop."""
    return extent if isinstance(extent, int) else map_expr(extent, change)


def substitute(s: Stmt, var: str, value: Expr) -> Stmt:
    """`s` with the loop variable replaced."""
    return map_stmt(s, lambda e: value if isinstance(e, Var) and e.name == var else None)


def expressions(s: Stmt) -> list[Expr]:
    """The expressions that stand directly or deeper in a statement (not their sub-expressions).

    Those that are the extents of loops, which read no data, are left out.
    """
    if isinstance(s, Let | Assign):
        return [s.value]
    if isinstance(s, Store):
        return [*s.indices, s.value]
    return [e for b in s.body for e in expressions(b)]


def walk(e: Expr) -> list[Expr]:
    """The expression and all its sub-expressions."""
    found: list[Expr] = []
    ahead: list[Expr] = [e]
    while ahead:
        e = ahead.pop()
        found.append(e)
        if type(e) in _LEAVES:
            continue
        match e:
            case Binary():
                ahead += (e.b, e.a)
            case Load():
                ahead.extend(reversed(e.indices))
            case Unary() | Cast():
                ahead.append(e.a)
            case Select():
                ahead += (e.b, e.a, e.condition)
    return found


def within(body: Iterable[Stmt]) -> list[Expr]:
    """All expressions in statements, with their sub-expressions, but for the extents of loops."""
    return [e for s in body for top in expressions(s) for e in walk(top)]


def loads(body: Iterable[Stmt]) -> list[Load]:
    """All that statements load, but for the extents of loops."""
    return [e for e in within(body) if isinstance(e, Load)]


def statements(body: tuple[Stmt, ...]) -> list[Stmt]:
    """All statements, nested ones included, in order."""
    found: list[Stmt] = []
    for s in body:
        found.append(s)
        if isinstance(s, For | Nest):
            found.extend(statements(s.body))
    return found


def around(loops: Sequence[For], body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements inside of loops like these, the first of them outermost."""
    for loop in reversed(loops):
        body = (replace(loop, body=body),)
    return body


def map_innermost(s: Stmt, change: Callable[[Stmt], Stmt]) -> Stmt:
    """Rebuilds the loops and nests around what they contain, changed."""
    if isinstance(s, For | Nest):
        return replace(s, body=tuple(map_innermost(b, change) for b in s.body))
    return change(s)


def carries_scalars(loop: For) -> bool:
    """Whether a run of the loop changes a scalar from outside of it, which the next run finds changed."""
    inside = statements(loop.body)
    declared = {s.name for s in inside if isinstance(s, Let)}
    return any(isinstance(s, Assign) and s.name not in declared for s in inside)


def numbered(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements with variables and scalars numbered in their order: equal for bodies that differ in names only.

    The number of the running iteration keeps its name.
    """
    names: dict[str, str] = {}

    def number(name: str) -> str:
        return names.setdefault(name, f"n{len(names)}")

    def change(e: Expr) -> Expr | None:
        if isinstance(e, Local):
            return Local(number(e.name), e.dtype)
        return Var(number(e.name)) if isinstance(e, Var) and e.name != ITERATION else None

    def rename(s: Stmt) -> Stmt:
        if isinstance(s, For):
            extent = map_extent(s.extent, change)
            return For(number(s.var), extent, tuple(map(rename, s.body)), s.kind)
        if isinstance(s, Nest):
            return Nest(s.origins, tuple(map(rename, s.body)))
        if isinstance(s, Let):
            return Let(number(s.name), map_expr(s.value, change), s.mutable, s.placed)
        if isinstance(s, Assign):
            return Assign(number(s.name), map_expr(s.value, change))
        return map_stmt(s, change)

    return tuple(map(rename, body))
