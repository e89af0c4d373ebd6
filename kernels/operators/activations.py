"""Activations and the arithmetic that networks need beside the basic table: pointwise, NaN stays NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.composed import Keep, below, composed, divide, number, plus, times
from unfoldc.kernels.operators.elementwise import pointwise
from unfoldc.kernels.operators.table import FLOATS, NUMBERS, Arrays, array
from unfoldc.kernels.operators.transcendental import expm1

Attributes = Mapping[str, Any]
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)  # the default numbers of ONNX
_ROOT_HALF = math.sqrt(0.5)
_TANH_GELU = (math.sqrt(2 / math.pi), 0.044715)


def _bent(keep: Keep, x: Expr, outer: float, inner: float, slope: float) -> Expr:
    """`slope x` from 0 on, else `outer (exp(x / inner) - 1)`."""
    low = x if inner == 1 else keep(divide(x, number(inner, x)))
    bend = times(expm1(keep, low), outer)
    return build.select(below(x, 0), bend, x if slope == 1 else times(x, slope))


def _bent_numpy(v: Arrays, outer: float, inner: float, slope: float) -> Any:
    x = array(v, 0)
    low = np.minimum(x, 0) / np.asarray(inner, x.dtype)
    return np.where(x < 0, outer * np.expm1(low), slope * x).astype(x.dtype)


def _bends(name: str, a: Attributes) -> tuple[float, float, float]:
    if name == "Selu":
        alpha, gamma = a.get("alpha", _SELU[0]), a.get("gamma", _SELU[1])
        return alpha * gamma, 1.0, gamma
    alpha = a.get("alpha", 1.0)
    return (alpha, alpha, 1.0) if name == "Celu" else (alpha, 1.0, 1.0)


def _register_bent(name: str) -> None:
    composed(
        name,
        lambda a, v: _bent_numpy(v, *_bends(name, a)),
        lambda keep, a, e: _bent(keep, e[0], *_bends(name, a)),
        flops=16,
    )


def _cut(x: Expr) -> Expr:
    return build.binary("min", build.binary("max", x, number(0, x)), number(1, x))


def _cut_numpy(x: np.ndarray, alpha: float, beta: float) -> Any:
    return np.clip(np.asarray(alpha, x.dtype) * x + np.asarray(beta, x.dtype), 0, 1)


def _hard_sigmoid(_: Keep, a: Attributes, e: list[Expr]) -> Expr:
    return _cut(plus(times(e[0], a.get("alpha", 0.2)), a.get("beta", 0.5)))


def _hard_swish(_: Keep, __: Attributes, e: list[Expr]) -> Expr:
    return build.mul(e[0], _cut(plus(times(e[0], 1 / 6), 0.5)))


def _swish(_: Keep, a: Attributes, e: list[Expr]) -> Expr:
    x = e[0]
    return divide(x, plus(build.unary("exp", times(x, -a.get("alpha", 1.0))), 1))


def _swish_numpy(a: Attributes, v: Arrays) -> Any:
    x = array(v, 0)
    return (x / (1 + np.exp(-np.asarray(a.get("alpha", 1.0), x.dtype) * x))).astype(x.dtype)


def _mish(keep: Keep, _: Attributes, e: list[Expr]) -> Expr:
    """x tanh(log(1 + exp x)) = x (n + 2 m) / (n + 2 m + 2 q): powers of exp(-|x|), none of which overflows."""
    x = e[0]
    p = keep(build.unary("exp", build.unary("neg", build.unary("abs", x))))
    square = keep(build.mul(p, p))
    one, low = number(1, x), below(x, 0)
    top = keep(build.add(times(p, 2), build.select(low, square, one)))
    return divide(build.mul(x, top), build.add(top, times(build.select(low, one, square), 2)))


def _mish_numpy(_: Attributes, v: Arrays) -> Any:
    x = array(v, 0)
    return (x * np.tanh(np.logaddexp(x, np.zeros((), x.dtype)))).astype(x.dtype)


def _gelu(_: Keep, a: Attributes, e: list[Expr]) -> Expr:
    x = e[0]
    if a.get("approximate", "none") == "tanh":
        root, cubic = _TANH_GELU
        inner = build.mul(x, plus(times(build.mul(x, x), root * cubic), root))
        return build.mul(times(x, 0.5), plus(build.unary("tanh", inner), 1))
    return build.mul(times(x, 0.5), plus(build.unary("erf", times(x, _ROOT_HALF)), 1))


def _gelu_numpy(a: Attributes, v: Arrays) -> Any:
    x = array(v, 0)
    if a.get("approximate", "none") == "tanh":
        root, cubic = _TANH_GELU
        return (0.5 * x * (1 + np.tanh(x * (root + root * cubic * x * x)))).astype(x.dtype)
    return (0.5 * x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x * _ROOT_HALF))).astype(x.dtype)


def _threshold(_: Keep, a: Attributes, e: list[Expr]) -> Expr:
    x = e[0]
    return build.select(build.binary("le", x, number(a.get("alpha", 1.0), x)), number(0, x), x)


def _threshold_numpy(a: Attributes, v: Arrays) -> Any:
    x = array(v, 0)
    return np.where(x <= np.asarray(a.get("alpha", 1.0), x.dtype), np.zeros((), x.dtype), x)


def _prelu(_: Attributes, e: list[Expr]) -> Expr:
    return build.select(below(e[0], 0), build.mul(e[1], e[0]), e[0])


def _is_infinite(a: Attributes, e: list[Expr]) -> Expr:
    x = e[0]
    above, under = (build.binary("eq", x, number(sign * math.inf, x)) for sign in (1, -1))
    if a.get("detect_positive", 1) and a.get("detect_negative", 1):
        return build.binary("or", above, under)
    if a.get("detect_positive", 1):
        return above
    return under if a.get("detect_negative", 1) else build.binary("and", above, under)


def _is_infinite_numpy(a: Attributes, v: Arrays) -> Any:
    x = array(v, 0)
    return ((x == np.inf) & bool(a.get("detect_positive", 1))) | ((x == -np.inf) & bool(a.get("detect_negative", 1)))


def _mod(keep: Keep, a: Attributes, e: list[Expr]) -> Expr:
    """The rest of a division that rounds towards zero (fmod), else down; of integers 0 where the divisor is 0."""
    x, y = e
    if x.dtype in FLOATS:
        rest = keep(build.binary("fmod", x, y))
    else:
        unit = build.binary("or", build.binary("eq", y, number(0, y)), build.binary("eq", y, number(-1, y)))
        safe = keep(build.select(unit, number(1, y), y))  # neither may a division by 0 trap nor that of the least by -1
        rest = keep(build.sub(x, build.mul(divide(x, safe), safe)))
    if a.get("fmod", 0):
        return rest
    apart = build.binary("ne", below(rest, 0), below(y, 0))
    wrong = build.binary("and", build.binary("ne", rest, number(0, rest)), apart)
    return build.select(wrong, build.add(rest, y), rest)


def _mod_numpy(a: Attributes, v: Arrays) -> Any:
    return (np.fmod if a.get("fmod", 0) else np.mod)(array(v, 0), array(v, 1))


for _name in ("Elu", "Selu", "Celu"):
    _register_bent(_name)
composed("HardSigmoid", lambda a, v: _cut_numpy(array(v, 0), a.get("alpha", 0.2), a.get("beta", 0.5)), _hard_sigmoid, 4)
composed("HardSwish", lambda _, v: array(v, 0) * _cut_numpy(array(v, 0), 1 / 6, 0.5), _hard_swish, 5)
composed("Swish", _swish_numpy, _swish, 4)
composed("Mish", _mish_numpy, _mish, 9)
composed("Gelu", _gelu_numpy, _gelu, 6)
composed("ThresholdedRelu", _threshold_numpy, _threshold, 1)
composed("Mod", _mod_numpy, _mod, 3, NUMBERS)
pointwise(
    "Softsign",
    lambda _, v: array(v, 0) / (1 + np.abs(array(v, 0))),
    lambda _, e: divide(e[0], plus(build.unary("abs", e[0]), 1)),
    flops=3,
)
pointwise("PRelu", lambda _, v: np.where(array(v, 0) < 0, array(v, 1) * array(v, 0), array(v, 0)), _prelu, flops=2)
pointwise("Xor", lambda _, v: np.logical_xor(array(v, 0), array(v, 1)), lambda _, e: build.binary("ne", e[0], e[1]))
pointwise("IsInf", _is_infinite_numpy, _is_infinite, run_types=FLOATS)
