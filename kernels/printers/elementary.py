"""exp, log, tanh and erf without branches or calls, so that compilers make vector code of the loops around them.

Each is written once, for all back ends. NaN and infinities keep their meaning, zeros lose their sign. The largest
error, in units in the last place, whichever way the compiler reorders and contracts:

======  =======  =======  ====================================================================================
name    float32  float64  near the ends
======  =======  =======  ====================================================================================
`exp`   2        2        0 where the result would be below 1.7e-38 (float32) or 3.2e-308 (float64)
`log`   2        2        -Inf at 0 and NaN below; numbers too small to be normal count as any others
`tanh`  4        4        1 is reached and never passed
`erf`   4        4        1 is reached and never passed
======  =======  =======  ====================================================================================

A compiler that may reorder sums makes `y` of `(y + large) - large`, `x - n (p + q)` of `(x - n p) - n q`, and
`y p - large p` of `(y - large) p`. So what was rounded by a large number is read through its bits, and a minimum that
changes nothing stands between sums that must not be mixed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf, nan

from unfoldc.kernels.printers.elementary_coefficients import ERF, EXP, LOG, LOG_RATIO, TANH_LIMIT

Line = tuple[str, str, str]
"""What becomes of a value ("number", "word": a constant; "variable", "assign", "return"), its name, the expression."""

_LN2, _LOG2E, _HALF_ROOT = 0.6931471805599453094, 1.4426950408889634074, {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}
# ln 2 in two parts; the products of the first with the exponents are exact.
_LN2_PARTS = {32: (0.693359375, -2.1219444005469058e-4), 64: (0.693147180369123816490, 1.90821492927058770e-10)}
# Arguments are cut to where the power of two is 0 or infinite.
_EXP_RANGE = {32: (-87.3, 89.5), 64: (-708.3, 710.5)}


class Spelling(ABC):
    """How a language writes what the formulas are made of, for numbers of `dtype`; words are their bit patterns.

    Operands are text, names or expressions; signs of arithmetic and comparison are those that C and Python share.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.bits = int(dtype.removeprefix("float"))
        self.fraction = {32: 23, 64: 52}[self.bits]
        self.one = {32: 127, 64: 1023}[self.bits]  # the exponent of 1, as it is stored

    @abstractmethod
    def number(self, value: float) -> str:
        """A literal, for arithmetic."""

    @abstractmethod
    def whole(self, value: float) -> str:
        """A literal, as an operand of a function or a comparison."""

    @abstractmethod
    def word(self, value: int) -> str:
        """A literal word."""

    @abstractmethod
    def shifted(self, word: str, places: int) -> str:
        """A word shifted to the left, or to the right by a negative number of places."""

    @abstractmethod
    def pattern(self, x: str) -> str:
        """The bits of a number."""

    @abstractmethod
    def value(self, word: str) -> str:
        """The number with these bits."""

    @abstractmethod
    def choose(self, condition: str, a: str, b: str) -> str:
        """One of two numbers."""

    @abstractmethod
    def least(self, a: str, b: float) -> str:
        """The lesser of a, which stays if it is NaN, and a constant."""

    @abstractmethod
    def most(self, a: str, b: float) -> str:
        """The greater of the two."""

    @abstractmethod
    def absolute(self, a: str) -> str:
        """A number without its sign."""


def formula(name: str, spelling: Spelling) -> list[Line]:
    """The lines of a function of `a`, the last of which returns the result."""
    return _FORMULAS[name](spelling)


def _polynomial(s: Spelling, name: str, x: str, coefficients: Sequence[float]) -> list[Line]:
    """Horner's rule, a line for two coefficients."""
    *rest, last = (s.number(c) for c in coefficients)
    lines: list[Line] = []
    text = last
    while rest:
        text = f"({text} * {x}) + {rest.pop()}"
        text = f"(({text}) * {x}) + {rest.pop()}" if rest else text
        lines.append(("assign" if lines else "variable", name, text))
        text = name
    return lines


def _rounded(s: Spelling, x: str, scale: float) -> list[Line]:
    """t, whose last places hold rint(scale x / ln 2), and n, the same as a number."""
    large = 1.5 * 2.0**s.fraction
    magnitude = s.value(f"t & {s.word((1 << (s.bits - 1)) - 1)}")
    return [
        ("word", "t", s.pattern(f"({x} * {s.number(scale * _LOG2E)}) + {s.number(large)}")),
        ("number", "n", s.least(f"{magnitude} - {s.number(large)}", 2.0 * s.one)),
    ]


def _power(s: Spelling, less: int) -> str:
    """2^(n - less), made of t."""
    return s.value(f"{s.shifted('t', s.fraction)} + {s.word((s.one - less) << s.fraction)}")


def _exp(s: Spelling) -> list[Line]:
    """2^n e^r with n = rint(a / ln 2), as 2^(n - 1) and a doubled polynomial: 2^n itself may be too large."""
    low, high = _EXP_RANGE[s.bits]
    first, second = _LN2_PARTS[s.bits]
    return [
        ("number", "x", s.most(s.least("a", high), low)),
        *_rounded(s, "x", 1.0),
        ("number", "d", s.least(f"x - (n * {s.number(first)})", 1)),
        ("number", "r", f"d - (n * {s.number(second)})"),
        *_polynomial(s, "p", "r", [2.0, 2.0, *(2 * c for c in EXP[s.dtype])]),
        ("return", "", f"p * {_power(s, 1)}"),
    ]


def _log(s: Spelling) -> list[Line]:
    """n ln 2 + log(1 + m) with 1 + m between sqrt(1/2) and sqrt 2."""
    half_root, scale, offset = _HALF_ROOT[s.bits], s.fraction + 1, 2.0**s.fraction + s.one
    small = f"a < {s.whole(2.0 ** (1 - s.one))}"
    # The exponent becomes the last digits of 2^fraction.
    power = s.value(f"{s.shifted('t', -s.fraction)} | {s.word((s.one + s.fraction) << s.fraction)}")
    mantissa = s.value(f"(t & {s.word((1 << s.fraction) - 1)}) + {s.word(half_root)}")
    if s.bits == 32:
        inner, rest = _polynomial(s, "p", "m", LOG), "m + (m * m * p)"
    else:
        inner = [
            ("number", "q", f"m / (m + {s.number(2)})"),
            ("number", "z", "q * q"),
            ("number", "h", f"{s.number(0.5)} * m * m"),
            *_polynomial(s, "p", "z", LOG_RATIO),
        ]
        rest = "m - (h - (q * (h + (z * p))))"
    return [
        ("number", "y", s.choose(small, f"a * {s.number(2.0**scale)}", "a")),
        ("number", "e", s.choose(small, s.whole(offset + scale), s.whole(offset))),
        ("word", "t", f"{s.pattern('y')} + {s.word((s.one << s.fraction) - half_root)}"),
        ("number", "n", s.least(f"{power} - e", 2.0 * s.one)),
        ("number", "m", f"{mantissa} - {s.number(1)}"),
        *inner,
        ("number", "r", f"(n * {s.number(_LN2)}) + {s.least(rest, 1)}"),
        ("number", "u", s.choose(f"a < {s.whole(inf)}", "r", "a")),
        ("number", "v", s.choose(f"a == {s.whole(0)}", s.whole(-inf), s.whole(nan))),
        ("return", "", s.choose(f"a > {s.whole(0)}", "u", "v")),
    ]


def _expm1(s: Spelling, x: str, scale: float) -> list[Line]:
    """e = exp(scale x) - 1 to the last places near 0, too, for a scale of 2 or -1 and results below 2^(one - 1).

    With 2^n - 1 apart there is no difference of near numbers: e = 2^n (e^r - 1) + (2^n - 1).
    """
    terms = [scale, *(c * scale**i for i, c in enumerate(EXP[s.dtype], 2))]
    return [
        *_rounded(s, x, scale),
        ("number", "r", f"{x} - (n * {s.number(_LN2 / scale)})"),
        *_polynomial(s, "p", "r", terms),
        ("number", "b", _power(s, 0)),
        ("number", "e", f"(b * (r * p)) + {s.least(f'b - {s.number(1)}', 2.0 ** (s.one - 1))}"),
    ]


def _tanh(s: Spelling) -> list[Line]:
    """(e^2x - 1) / (e^2x + 1)."""
    limit = TANH_LIMIT[s.dtype]
    return [
        ("number", "x", s.most(s.least("a", limit), -limit)),
        *_expm1(s, "x", 2.0),
        ("return", "", f"e / (e + {s.number(2)})"),
    ]


def _erf(s: Spelling) -> list[Line]:
    """1 - exp(-x Q(x)), with the sign put back."""
    coefficients, limit = ERF[s.dtype]
    return [
        ("number", "x", s.least(s.absolute("a"), limit)),
        *_polynomial(s, "q", "x", coefficients),
        ("assign", "q", "q * x"),
        *_expm1(s, "q", -1.0),
        ("return", "", s.choose(f"a < {s.whole(0)}", "e", "-e")),
    ]


_FORMULAS: Mapping[str, Callable[[Spelling], list[Line]]] = {"exp": _exp, "log": _log, "tanh": _tanh, "erf": _erf}
FUNCTIONS = frozenset((name, dtype) for name in _FORMULAS for dtype in ("float32", "float64"))
"""Operators and element types that have a formula."""
