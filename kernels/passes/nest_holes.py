"""Statements as a form with holes: what remains of a loop nest when buffers and numbers are left open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unfoldc.kernels.build import ZERO, numbered
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
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
    Var,
)


@dataclass(frozen=True)
class Hole:
    """A place in a statement: kind "load" or "store" with the buffer's name, or "const" with the literal."""

    kind: str
    name: str = ""
    value: Const = ZERO


def refill(s: Stmt, fill: Callable[[Hole], Expr | str]) -> Stmt:
    """The statement with its holes filled anew, always in the same order.

    A load's hole takes a buffer, or `buffer[var]` for the slice of a stack at a loop variable.
    """

    def load(e: Load) -> Expr:
        indices = tuple(expression(i) for i in e.indices)
        name = str(fill(Hole("load", e.buffer)))
        stack, bracket, variable = name.partition("[")
        return Load(stack, (Var(variable.rstrip("]")), *indices) if bracket else indices, e.dtype)

    def expression(e: Expr) -> Expr:
        match e:
            case Const():
                found = fill(Hole("const", value=e))
                assert not isinstance(found, str)
                return found
            case Load():
                return load(e)
            case Unary(operator, a, dtype):
                return Unary(operator, expression(a), dtype)
            case Cast(a, dtype):
                return Cast(expression(a), dtype)
            case Binary(operator, a, b, dtype):
                return Binary(operator, expression(a), expression(b), dtype)
            case Select(condition, a, b, dtype):
                return Select(expression(condition), expression(a), expression(b), dtype)
            case _:
                return e

    match s:
        case Let(name, value, mutable):
            return Let(name, expression(value), mutable)
        case Assign(name, value):
            return Assign(name, expression(value))
        case Store(buffer, indices, value):
            found = tuple(expression(i) for i in indices), expression(value)
            return Store(str(fill(Hole("store", buffer))), *found)
        case For(var, extent, body, kind):
            return For(var, extent, tuple(refill(b, fill) for b in body), kind)
        case Nest(origins, body):
            return Nest(origins, tuple(refill(b, fill) for b in body))


def holes(s: Stmt) -> list[Hole]:
    """The holes with what stands in them."""
    found: list[Hole] = []

    def note(hole: Hole) -> Expr | str:
        found.append(hole)
        return hole.value if hole.kind == "const" else hole.name

    refill(s, note)
    return found


def skeleton(s: Stmt, buffers: Mapping[str, Buffer]) -> Stmt:
    """The statement without names, numbers and origins: equal for statements that differ in nothing else."""

    def blank(hole: Hole) -> Expr | str:
        if hole.kind == "const":
            return Const(0, hole.value.dtype)
        buffer = buffers[hole.name]
        return f"{buffer.dtype}{buffer.shape}"

    (bare,) = numbered((Nest((), s.body) if isinstance(s, Nest) else s,))
    return refill(bare, blank)
