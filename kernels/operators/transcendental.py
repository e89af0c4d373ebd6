"""Functions made of exp, log, sin, cos, sqrt and short series, so that every printer has them.

The forms lose no digits: a few units in the last place, also near zeros and poles. None relies on the order in which a
compiler adds. The series of atan and atanh converge like 0.04^n on the intervals that they are used on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr
from unfoldc.kernels.operators.composed import Keep, below, composed, divide, number, odd, plus, times
from unfoldc.kernels.operators.table import array

_TERMS = {"float32": 6, "float64": 12}
_SINH_TERMS = {"float32": 6, "float64": 10}
# From here on asinh x and acosh x are log 2x to all digits; x^2 may overflow.
_LARGE = {"float32": 1e4, "float64": 1e8}


def _series(keep: Keep, z: Expr, sign: int) -> Expr:
    """z + s z^3/3 + s^2 z^5/5 + ...: atanh for s = 1, atan for s = -1; for |z| up to 0.2."""
    square = keep(build.mul(z, z))
    terms = _TERMS[z.dtype]
    result = number(sign ** (terms - 1) / (2 * terms - 1), z)
    for n in reversed(range(1, terms - 1)):
        result = plus(build.mul(result, square), sign**n / (2 * n + 1))
    return build.add(z, build.mul(build.mul(z, square), result))


def _short_sinh(keep: Keep, z: Expr) -> Expr:
    """z + z^3/3! + z^5/5! + ... for |z| up to 1."""
    square = keep(build.mul(z, z))
    terms = _SINH_TERMS[z.dtype]
    result = number(1 / math.factorial(2 * terms - 1), z)
    for n in reversed(range(1, terms - 1)):
        result = plus(build.mul(result, square), 1 / math.factorial(2 * n + 1))
    return build.add(z, build.mul(build.mul(z, square), result))


def expm1(keep: Keep, x: Expr) -> Expr:
    """exp(x) - 1 for x up to 0, without cancellation: 2 sinh(x/2) exp(x/2)."""
    z = keep(times(x, 0.5))
    root = keep(build.unary("exp", z))
    near = times(build.mul(_short_sinh(keep, z), root), 2)
    return build.select(below(z, -1), plus(build.mul(root, root), -1), near)


def _log1p(keep: Keep, y: Expr) -> Expr:
    """log(1 + y) for y from 0: 2 atanh(y / (2 + y)) where that is small."""
    near = times(_series(keep, keep(divide(y, plus(y, 2))), 1), 2)
    return build.select(below(y, 0.5), near, build.unary("log", plus(y, 1)))


def _arctan(keep: Keep, x: Expr) -> Expr:
    """atan t = atan c + atan((t - c) / (1 + c t)) with the nearest of c = 0, tan(pi/8) and 1."""
    t = keep(build.unary("abs", x))
    steep = keep(build.binary("gt", t, number(1, t)))
    t = keep(build.select(steep, divide(number(1, t), t), t))
    eighth = math.tan(math.pi / 8)
    low, middle = (keep(below(t, math.tan(k * math.pi / 16))) for k in (1, 3))
    centre = keep(build.select(low, number(0, t), build.select(middle, number(eighth, t), number(1, t))))
    angle = build.select(low, number(0, t), build.select(middle, number(math.pi / 8, t), number(math.pi / 4, t)))
    rest = keep(divide(build.sub(t, centre), plus(build.mul(centre, t), 1)))
    result = keep(build.add(angle, _series(keep, rest, -1)))
    return odd(x, keep(build.select(steep, build.sub(number(math.pi / 2, t), result), result)))


def _tan(keep: Keep, x: Expr) -> Expr:
    return divide(build.unary("sin", x), build.unary("cos", x))


def _asin(keep: Keep, x: Expr) -> Expr:
    """2 atan(x / (1 + sqrt(1 - x^2))). Compilers may take x / sqrt(0) for NaN: no such quotient here or below."""
    inside = build.mul(build.sub(number(1, x), x), plus(x, 1))
    return times(_arctan(keep, keep(divide(x, plus(build.unary("sqrt", inside), 1)))), 2)


def _acos(keep: Keep, x: Expr) -> Expr:
    """2 atan(sqrt((1 - x) / (1 + x))) of |x|; what is left of pi below 0."""
    a = keep(build.unary("abs", x))
    ratio = divide(build.sub(number(1, a), a), plus(a, 1))
    angle = keep(times(_arctan(keep, keep(build.unary("sqrt", ratio))), 2))
    return build.select(below(x, 0), build.sub(number(math.pi, x), angle), angle)


def _halves(keep: Keep, a: Expr) -> tuple[Expr, Expr]:
    """exp(a) / 2, which overflows only where it must, and exp(-a) / 2."""
    root = keep(build.unary("exp", times(a, 0.5)))
    return build.mul(times(root, 0.5), root), divide(number(0.5, a), build.mul(root, root))


def _sinh(keep: Keep, x: Expr) -> Expr:
    a = keep(build.unary("abs", x))
    return odd(x, keep(build.select(below(a, 1), _short_sinh(keep, a), build.sub(*_halves(keep, a)))))


def _cosh(keep: Keep, x: Expr) -> Expr:
    return build.add(*_halves(keep, keep(build.unary("abs", x))))


def _asinh(keep: Keep, x: Expr) -> Expr:
    a = keep(build.unary("abs", x))
    square = keep(build.mul(a, a))
    y = keep(build.add(a, divide(square, plus(build.unary("sqrt", plus(square, 1)), 1))))
    return odd(x, keep(_far(a, _log1p(keep, y))))


def _acosh(keep: Keep, x: Expr) -> Expr:
    t = keep(plus(x, -1))
    # Two roots: below 1 the first is NaN, as acosh is.
    y = keep(build.add(t, build.mul(build.unary("sqrt", t), build.unary("sqrt", plus(t, 2)))))
    return _far(x, _log1p(keep, y))


def _far(a: Expr, near: Expr) -> Expr:
    """log 2a where a is large, else `near`."""
    far = build.binary("gt", a, number(_LARGE[a.dtype], a))
    return build.select(far, plus(build.unary("log", a), math.log(2)), near)


def _atanh(keep: Keep, x: Expr) -> Expr:
    a = keep(build.unary("abs", x))
    wide = times(build.unary("log", divide(plus(a, 1), build.sub(number(1, a), a))), 0.5)
    return odd(x, keep(build.select(below(a, 0.2), _series(keep, a, 1), wide)))


def _register(name: str, function: Callable[..., Any], form: Callable[[Keep, Expr], Expr], flops: int) -> None:
    def formula(keep: Keep, _: Mapping[str, Any], operands: list[Expr]) -> Expr:
        return form(keep, operands[0])

    composed(name, lambda _, v: function(array(v, 0)), formula, flops)


_register("Tan", np.tan, _tan, 3)
_register("Asin", np.arcsin, _asin, 40)
_register("Acos", np.arccos, _acos, 40)
_register("Atan", np.arctan, _arctan, 36)
_register("Sinh", np.sinh, _sinh, 14)
_register("Cosh", np.cosh, _cosh, 7)
_register("Asinh", np.arcsinh, _asinh, 36)
_register("Acosh", np.arccosh, _acosh, 36)
_register("Atanh", np.arctanh, _atanh, 30)
