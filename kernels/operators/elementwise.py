"""Pointwise operators: one scalar expression per element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erf
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Const, Expr
from unfoldc.kernels.operators.table import (
    FLOATS,
    Arrays,
    Index,
    Lowering,
    Operator,
    array,
    broadcast_index,
    given,
    optional,
    register,
)
from unfoldc.kernels.program import Node, TensorType

Scalar = Callable[[Mapping[str, Any], list[Expr]], Expr]


def _operand(lowering: Lowering, node: Node, i: int, at: Index) -> Expr:
    name = node.inputs[i]
    return lowering.element(name, broadcast_index(at, lowering.type(name).shape))


def pointwise(
    name: str,
    numpy_form: Callable[[Mapping[str, Any], Arrays], Any],
    scalar: Scalar,
    flops: int = 1,
    run_types: tuple[str, ...] = (),
) -> None:
    """Registers an operator from its NumPy form and its scalar expression of the operands that are there."""

    def infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
        scalars = [None if t is None else np.zeros((), t.dtype) for t in types]
        with np.errstate(all="ignore"):
            dtype = np.asarray(numpy_form(attributes, scalars)).dtype
        return (TensorType(str(dtype), np.broadcast_shapes(*(t.shape for t in types if t is not None))),)

    def evaluate(attributes: Mapping[str, Any], inputs: Arrays) -> tuple[np.ndarray, ...]:
        return (np.asarray(numpy_form(attributes, inputs)),)

    def element(lowering: Lowering, node: Node, at: Index) -> Expr:
        operands = [_operand(lowering, node, i, at) for i, name in enumerate(node.inputs) if name]
        return scalar(node.attributes, operands)

    def count(inputs: Sequence[TensorType], output: TensorType) -> int:
        return flops * output.size

    register(Operator(name, "pointwise", evaluate, element, count, infer, run_types=run_types))


def _binary(name: str, operator: str, function: Callable[..., Any], run_types: tuple[str, ...] = ()) -> None:
    pointwise(
        name,
        lambda _, v: function(array(v, 0), array(v, 1)),
        lambda _, e: build.binary(operator, e[0], e[1]),
        run_types=run_types,
    )


def _unary(name: str, operator: str, function: Callable[..., Any]) -> None:
    pointwise(name, lambda _, v: function(array(v, 0)), lambda _, e: build.unary(operator, e[0]))


def _quotient(_: Mapping[str, Any], e: list[Expr]) -> Expr:
    """Division; by a known number, multiplication, which takes a tenth of the time and differs by a rounding."""
    x, divisor = e
    known = isinstance(divisor, Const) and divisor.dtype in FLOATS and 1e-30 < abs(divisor.value) < 1e30
    if not known or not isinstance(divisor, Const):
        return build.binary("div", x, divisor)
    return build.mul(x, build.literal(float(np.dtype(x.dtype).type(1 / divisor.value)), x.dtype))


def _power(_: Mapping[str, Any], e: list[Expr]) -> Expr:
    """Squares and other small powers by products: a library's `pow` takes fifty times as long."""
    x, exponent = e
    if not isinstance(exponent, Const) or exponent.value not in (-2, -1, 1, 2, 3, 4):
        return build.binary("pow", x, build.cast(exponent, x.dtype))
    square = build.mul(x, x)
    product = {1: x, 2: square, 3: build.mul(square, x), 4: build.mul(square, square)}[abs(int(exponent.value))]
    return product if exponent.value > 0 else build.binary("div", build.literal(1, x.dtype), product)


def _divide(a: np.ndarray, b: np.ndarray) -> Any:
    if np.issubdtype(a.dtype, np.integer):
        return (np.sign(a) * np.sign(b) * (abs(a) // abs(b))).astype(a.dtype)
    return a / b


def _reduce(operator: str, function: Callable[..., Any]) -> tuple[Callable[..., Any], Scalar]:
    def numpy_form(_: Mapping[str, Any], v: Arrays) -> Any:
        result = array(v, 0)
        for i in range(1, len(v)):
            result = function(result, array(v, i))
        return result

    def scalar(_: Mapping[str, Any], e: list[Expr]) -> Expr:
        result = e[0]
        for other in e[1:]:
            result = build.binary(operator, result, other)
        return result

    return numpy_form, scalar


def _sign(_: Mapping[str, Any], e: list[Expr]) -> Expr:
    x = e[0]
    one, zero = build.literal(1, x.dtype), build.literal(0, x.dtype)
    minus = build.literal(-1, x.dtype)
    # x itself as the last choice keeps NaN and zero.
    return build.select(build.binary("gt", x, zero), one, build.select(build.binary("lt", x, zero), minus, x))


def _relu(_: Mapping[str, Any], e: list[Expr]) -> Expr:
    zero = build.literal(0, e[0].dtype)
    return build.select(build.binary("lt", e[0], zero), zero, e[0])


def _relu_numpy(_: Mapping[str, Any], v: Arrays) -> Any:
    x = array(v, 0)
    return np.where(x < 0, np.zeros((), x.dtype), x)


def _sigmoid(_: Mapping[str, Any], e: list[Expr]) -> Expr:
    one = build.literal(1, e[0].dtype)
    return build.binary("div", one, build.add(one, build.unary("exp", build.unary("neg", e[0]))))


def _sigmoid_numpy(_: Mapping[str, Any], v: Arrays) -> Any:
    x = array(v, 0)
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-x))).astype(x.dtype)


def _leaky(attributes: Mapping[str, Any], e: list[Expr]) -> Expr:
    x = e[0]
    slope = build.literal(attributes.get("alpha", 0.01), x.dtype)
    return build.select(build.binary("lt", x, build.literal(0, x.dtype)), build.mul(slope, x), x)


def _leaky_numpy(attributes: Mapping[str, Any], v: Arrays) -> Any:
    x = array(v, 0)
    return np.where(x < 0, np.asarray(attributes.get("alpha", 0.01), x.dtype) * x, x)


def _clip_numpy(_: Mapping[str, Any], v: Arrays) -> Any:
    x, low, high = array(v, 0), optional(v, 1), optional(v, 2)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _clip_infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    if any(t is not None and t.shape for t in types[1:]):
        raise ValueError("a bound of Clip is one number, of shape []")
    return (given(types, 0),)


def _clip_element(lowering: Lowering, node: Node, at: Index) -> Expr:
    x = _operand(lowering, node, 0, at)
    if len(node.inputs) > 1 and node.inputs[1]:
        x = build.binary("max", x, lowering.element(node.inputs[1], ()))
    if len(node.inputs) > 2 and node.inputs[2]:
        x = build.binary("min", x, lowering.element(node.inputs[2], ()))
    return x


def _softplus(_: Mapping[str, Any], e: list[Expr]) -> Expr:
    # max(x, 0) + log(1 + exp(-|x|)) does not overflow.
    x = e[0]
    one, zero = build.literal(1, x.dtype), build.literal(0, x.dtype)
    rest = build.unary("log", build.add(one, build.unary("exp", build.unary("neg", build.unary("abs", x)))))
    return build.add(build.binary("max", x, zero), rest)


def _shrink(attributes: Mapping[str, Any], e: list[Expr]) -> Expr:
    x = e[0]
    bias, limit = (build.literal(v, x.dtype) for v in _shrink_numbers(attributes))
    above, below = build.binary("gt", x, limit), build.binary("lt", x, build.unary("neg", limit))
    # NaN is neither above nor below; it stays NaN, as in PyTorch, so that a diverging solver is seen.
    within = build.select(build.unary("isnan", x), x, build.literal(0, x.dtype))
    return build.select(below, build.add(x, bias), build.select(above, build.sub(x, bias), within))


def _shrink_numbers(attributes: Mapping[str, Any]) -> tuple[float, float]:
    return attributes.get("bias", 0.0), attributes.get("lambd", 0.5)


def _shrink_numpy(attributes: Mapping[str, Any], v: Arrays) -> Any:
    x = array(v, 0)
    bias, limit = (np.asarray(number, x.dtype) for number in _shrink_numbers(attributes))
    return np.where(x < -limit, x + bias, np.where(x > limit, x - bias, np.where(np.isnan(x), x, 0))).astype(x.dtype)


def _cast_numpy(attributes: Mapping[str, Any], v: Arrays) -> Any:
    return array(v, 0).astype(attributes["to"])


def _erf(x: np.ndarray) -> Any:
    return np.vectorize(erf, otypes=[x.dtype])(x)


_BINARIES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("Add", "add", np.add),
    ("Sub", "sub", np.subtract),
    ("Mul", "mul", np.multiply),
    ("Less", "lt", np.less),
    ("LessOrEqual", "le", np.less_equal),
    ("Greater", "gt", np.greater),
    ("GreaterOrEqual", "ge", np.greater_equal),
    ("Equal", "eq", np.equal),
    ("And", "and", np.logical_and),
    ("Or", "or", np.logical_or),
)
_UNARIES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("Neg", "neg", np.negative),
    ("Abs", "abs", np.abs),
    ("Sqrt", "sqrt", np.sqrt),
    ("Exp", "exp", np.exp),
    ("Log", "log", np.log),
    ("Tanh", "tanh", np.tanh),
    ("Erf", "erf", _erf),
    ("Sin", "sin", np.sin),
    ("Cos", "cos", np.cos),
    ("Floor", "floor", np.floor),
    ("Ceil", "ceil", np.ceil),
    ("Round", "round", np.round),
    ("Not", "not", np.logical_not),
    ("IsNaN", "isnan", np.isnan),
)

for _name, _op, _function in _BINARIES:
    _binary(_name, _op, _function)
# Of integers these are shape arithmetic, done at import: at run time a zero divisor would trap.
pointwise("Div", lambda _, v: _divide(array(v, 0), array(v, 1)), _quotient, run_types=FLOATS)
pointwise("Pow", lambda _, v: np.power(array(v, 0), array(v, 1).astype(array(v, 0).dtype)), _power, run_types=FLOATS)

for _name, _op, _function in _UNARIES:
    _unary(_name, _op, _function)

for _name, _op, _function in (("Min", "min", np.minimum), ("Max", "max", np.maximum), ("Sum", "add", np.add)):
    pointwise(_name, *_reduce(_op, _function))

pointwise("Sign", lambda _, v: np.sign(array(v, 0)), _sign)
pointwise("Relu", _relu_numpy, _relu)
pointwise("LeakyRelu", _leaky_numpy, _leaky, flops=2)
pointwise("Sigmoid", _sigmoid_numpy, _sigmoid, flops=4)
pointwise("Softplus", lambda _, v: np.logaddexp(array(v, 0), np.zeros((), array(v, 0).dtype)), _softplus, flops=5)
pointwise("Shrink", _shrink_numpy, _shrink, flops=3, run_types=FLOATS)
pointwise(
    "Reciprocal",
    lambda _, v: (1 / array(v, 0)).astype(array(v, 0).dtype),
    lambda _, e: build.binary("div", build.literal(1, e[0].dtype), e[0]),
)
pointwise(
    "Where",
    lambda _, v: np.where(array(v, 0), array(v, 1), array(v, 2)),
    lambda _, e: build.select(e[0], e[1], e[2]),
)
pointwise("Cast", _cast_numpy, lambda a, e: build.cast(e[0], a["to"]), flops=0)
register(
    Operator(
        "Clip",
        "pointwise",
        lambda a, v: (np.asarray(_clip_numpy(a, v)),),
        _clip_element,
        lambda i, o: 2 * o.size,
        _clip_infer,
    )
)
