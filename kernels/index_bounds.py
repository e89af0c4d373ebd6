"""What values an index takes: sums of loop variables, in loops whose length may depend on the loops around them.

A variable's greatest value may be an expression of outer variables, as in `for k < j`. An index is written as a linear
form; its variables are replaced by their ends from the innermost outwards, so that `j - k` is found to be at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Binary, Cast, Const, Expr, For, Load, Var

# Least and greatest value of each loop variable, outer loops first.
Ranges = Mapping[str, tuple[int, int | Expr]]
_UNKNOWN = (-(2**63), 2**63 - 1)


@dataclass
class Linear:
    """`constant` and a sum of `factor * term`; a term is a variable or what is no sum itself."""

    constant: int = 0
    terms: dict[Expr, int] = field(default_factory=dict)

    @property
    def moving(self) -> dict[Expr, int]:
        """The terms that do not cancel each other out."""
        return {e: factor for e, factor in self.terms.items() if factor}

    def add(self, e: Expr, factor: int) -> None:
        """Adds `factor * e`."""
        if isinstance(e, Const):
            self.constant += int(e.value) * factor
        elif isinstance(e, Cast) and not e.a.dtype.startswith("float"):
            self.add(e.a, factor)
        elif isinstance(e, Binary) and e.operator in ("add", "sub"):
            self.add(e.a, factor)
            self.add(e.b, factor if e.operator == "add" else -factor)
        elif isinstance(e, Binary) and e.operator == "mul" and isinstance(e.b, Const):
            self.add(e.a, factor * int(e.b.value))
        elif isinstance(e, Binary) and e.operator == "mul" and isinstance(e.a, Const):
            self.add(e.b, factor * int(e.a.value))
        else:
            self.terms[e] = self.terms.get(e, 0) + factor


def linear(e: Expr, factor: int = 1) -> Linear:
    """An integer expression as a linear form, times a factor."""
    result = Linear()
    result.add(e, factor)
    return result


def half_turned(e: Expr, var: str) -> int:
    """n where the index is `(var + n / 2) mod n`, which exchanges the halves of n elements; otherwise 0."""
    match e:
        case Binary("mod", Binary("add", Var(name), Const(half)), Const(whole)) if name == var:
            return int(whole) if half and whole == 2 * half else 0
    return 0


def loop_range(loop: For) -> tuple[int, int | Expr]:
    """Least and greatest value of the variable of a loop that runs at all."""
    if isinstance(loop.extent, int):
        return 0, loop.extent - 1
    return 0, build.sub(loop.extent, build.index(1))


def longest(extent: int | Expr, ranges: Ranges) -> int:
    """The greatest number of runs of a loop."""
    return extent if isinstance(extent, int) else max(bounds(extent, ranges)[1], 0)


def bounds(e: Expr, ranges: Ranges, constants: Mapping[str, np.ndarray] | None = None) -> tuple[int, int]:
    """Least and greatest value of an integer; for one that depends on data, those of 64 bits.

    `ranges` bounds the loop variables, `constants` gives the content of buffers that are known.
    """
    low, high = _below(linear(e), ranges, constants), -_below(linear(e, -1), ranges, constants)
    return low, min(high, _UNKNOWN[1])


def _below(form: Linear, ranges: Ranges, constants: Mapping[str, np.ndarray] | None) -> int:
    """A bound from below: the better one of two, where `x % c` is at most c - 1 and at most x.

    Of a `min` or `max` it is that of one of the operands.
    """
    for term, factor in form.terms.items():
        if factor and isinstance(term, Binary) and term.operator in ("min", "max"):
            found = [_below(_with(form, term, x), ranges, constants) for x in (term.a, term.b)]
            return min(found) if (term.operator == "min") == (factor > 0) else max(found)
    rests = [x for x, f in form.terms.items() if f < 0 and isinstance(x, Binary) and x.operator == "mod"]
    other = Linear(form.constant, dict(form.terms))
    for rest in rests:
        if bounds(rest.a, ranges, constants)[0] >= 0:
            other.add(rest.a, other.terms.pop(rest))
    least = _least(form, ranges, constants)
    return max(least, _least(other, ranges, constants)) if rests else least


def _with(form: Linear, term: Expr, value: Expr) -> Linear:
    """The form with another value in place of a term."""
    result = Linear(form.constant, dict(form.terms))
    result.add(value, result.terms.pop(term))
    return result


def _least(form: Linear, ranges: Ranges, constants: Mapping[str, np.ndarray] | None) -> int:
    for name in reversed(list(ranges)):
        factor = form.terms.pop(Var(name), 0)
        low, high = ranges[name]
        if factor >= 0:
            form.constant += factor * low
        elif isinstance(high, int):
            form.constant += factor * high
        else:
            _add_rounded(form, high, factor)
    for term, factor in form.terms.items():
        low, high = _term(term, ranges, constants)
        if factor and (low, high) == _UNKNOWN:
            return _UNKNOWN[0]
        form.constant += factor * (low if factor > 0 else high)
    return form.constant


def _add_rounded(form: Linear, e: Expr, factor: int) -> None:
    """Adds `factor * e` or less, where `factor` is negative: `c (x // c)` is at most x."""
    for term, own in linear(e, factor).terms.items():
        if isinstance(term, Binary) and term.operator == "floordiv" and isinstance(term.b, Const):
            divisor = int(term.b.value)
            if own < 0 < divisor and own % divisor == 0:
                form.add(term.a, own // divisor)
                continue
        form.add(term, own)
    form.constant += linear(e, factor).constant


def _term(e: Expr, ranges: Ranges, constants: Mapping[str, np.ndarray] | None) -> tuple[int, int]:
    if isinstance(e, Load) and constants is not None and e.buffer in constants:
        return int(constants[e.buffer].min()), int(constants[e.buffer].max())
    if isinstance(e, Binary):
        return _combined(e.operator, bounds(e.a, ranges, constants), bounds(e.b, ranges, constants))
    return _UNKNOWN


def _combined(operator: str, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    (a, b), (c, d) = left, right
    match operator:
        case "mul":
            products = [a * c, a * d, b * c, b * d]
            return min(products), max(products)
        case "floordiv" if c == d > 0:
            return a // c, b // c
        case "mod" if c == d > 0:
            return (a, b) if a >= 0 and b < c else (0, c - 1)
        case "min":
            return min(a, c), min(b, d)
        case "max":
            return max(a, c), max(b, d)
    return _UNKNOWN
