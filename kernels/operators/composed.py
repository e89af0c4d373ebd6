"""Pointwise operators whose expression repeats parts of itself: each part becomes a scalar of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Const, Expr, Let, Load, Local, Var
from unfoldc.kernels.operators.table import (
    FLOATS,
    Arrays,
    Index,
    Lowering,
    Operator,
    broadcast_index,
    register,
)
from unfoldc.kernels.program import Node, TensorType

Keep = Callable[[Expr], Expr]
Formula = Callable[[Keep, Mapping[str, Any], list[Expr]], Expr]


def composed(
    name: str,
    numpy_form: Callable[[Mapping[str, Any], Arrays], Any],
    formula: Formula,
    flops: int,
    run_types: tuple[str, ...] = FLOATS,
) -> None:
    """Registers an operator from its NumPy form and its formula of the operands that are there.

    `formula(keep, attributes, operands)` puts what it reads more than once into a scalar with `keep(expression)`.
    """

    def evaluate(attributes: Mapping[str, Any], inputs: Arrays) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(numpy_form(attributes, inputs)),)

    def infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
        (result,) = evaluate(attributes, [None if t is None else np.ones((), t.dtype) for t in types])
        return (TensorType(str(result.dtype), np.broadcast_shapes(*(t.shape for t in types if t is not None))),)

    def element(lowering: Lowering, node: Node, at: Index) -> Expr:
        def keep(e: Expr) -> Expr:
            if isinstance(e, Const | Var | Local | Load):
                return e
            scalar = lowering.fresh("v")
            lowering.emit(Let(scalar, e))
            return Local(scalar, e.dtype)

        names = [i for i in node.inputs if i]
        operands = [lowering.element(i, broadcast_index(at, lowering.type(i).shape)) for i in names]
        return formula(keep, node.attributes, operands)

    def count(inputs: Sequence[TensorType], output: TensorType) -> int:
        return flops * output.size

    register(Operator(name, "pointwise", evaluate, element, count, infer, run_types=run_types))


def number(value: float, like: Expr) -> Expr:
    """A literal of the same type as an expression."""
    return build.literal(value, like.dtype)


def below(a: Expr, b: float) -> Expr:
    """Whether `a < b`."""
    return build.binary("lt", a, number(b, a))


def times(a: Expr, b: float) -> Expr:
    """`b a`."""
    return build.mul(number(b, a), a)


def plus(a: Expr, b: float) -> Expr:
    """`a + b`."""
    return build.add(a, number(b, a))


def divide(a: Expr, b: Expr) -> Expr:
    """`a / b`."""
    return build.binary("div", a, b)


def odd(x: Expr, of_magnitude: Expr) -> Expr:
    """A value that was found for |x|, with the sign of x."""
    return build.select(below(x, 0), build.unary("neg", of_magnitude), of_magnitude)
