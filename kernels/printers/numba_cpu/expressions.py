"""Expressions of the loop representation as Python that Numba compiles.

Numba computes integers in 64 bits and has no literals of other types, so constants are wrapped in their type and results
of narrow integers are cut back to it; int32 and int64 are left alone, since overflow is not defined for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from unfoldc.kernels.loops import Binary, Cast, Const, Expr, Load, Local, Select, Unary, Var
from unfoldc.kernels.printers.expressions import flatten, simplify

WIDE = frozenset({"int32", "int64"})
_ATOM = 9
# operator -> (sign, strength); comparisons do not chain, so both their sides bind more tightly.
_SIGNS: Mapping[str, tuple[str, int]] = {
    "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1), "ge": (">=", 1), "eq": ("==", 1), "ne": ("!=", 1),
    "or": ("|", 2), "and": ("&", 3), "add": ("+", 4), "sub": ("-", 4),
    "mul": ("*", 5), "div": ("/", 5), "floordiv": ("//", 5), "mod": ("%", 5), "pow": ("**", 7),
}  # fmt: skip
_CALLS: Mapping[str, str] = {
    "abs": "abs", "sqrt": "sqrt", "exp": "math.exp", "log": "math.log", "tanh": "math.tanh", "erf": "math.erf",
    "sin": "math.sin", "cos": "math.cos", "floor": "floor", "ceil": "ceil", "round": "nearest",
    "isnan": "isnan", "min": "minimum", "max": "maximum",
}  # fmt: skip


class ExpressionPrinter:
    """Prints expressions; `name` gives the identifier of a scalar or buffer, `shape` the shape of a buffer."""

    def __init__(self, name: Callable[[str, str], str], shape: Callable[[str], tuple[int, ...]]) -> None:
        self._name, self._shape = name, shape

    def text(self, e: Expr) -> str:
        """The expression, without parentheses around it."""
        return self._print(e)[0]

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, through its flat view."""
        return f"{self._name(buffer, 'buffer')}[{self.text(flatten(indices, self._shape(buffer)))}]"

    def _print(self, e: Expr) -> tuple[str, int]:
        match e:
            case Const(value, dtype):
                text = literal(value, dtype)
                return text, 6 if text.startswith("-") else _ATOM
            case Var(name):
                return self._name(name, "int32"), _ATOM
            case Local(name, dtype):
                return self._name(name, dtype), _ATOM
            case Load(buffer, indices):
                return self.element(buffer, indices), _ATOM
            case Cast(a, dtype):
                return self._cast(a, dtype)
            case Select(condition, a, b):
                return f"select({self.text(condition)}, {self.text(a)}, {self.text(b)})", _ATOM
            case Unary(operator, a, dtype):
                return self._unary(operator, a, dtype)
            case Binary():
                return self._binary(e)

    def _cast(self, a: Expr, dtype: str) -> tuple[str, int]:
        if dtype == "bool" and a.dtype != "bool":
            return f"{self._side(a, 2)} != {literal(0, a.dtype)}", 1
        if dtype == a.dtype or (dtype == "int64" and isinstance(a, Var)):
            return self._print(a)
        return f"{_constructor(dtype)}({self.text(a)})", _ATOM

    def _unary(self, operator: str, a: Expr, dtype: str) -> tuple[str, int]:
        match operator:
            case "neg":
                return self._narrow(f"-{self._side(a, 6)}", 6, dtype)
            case "not":
                return f"not {self._side(a, 1)}", 0
        return self._narrow(f"{_CALLS[operator]}({self.text(a)})", _ATOM, dtype)

    def _binary(self, e: Binary) -> tuple[str, int]:
        whole = simplify(e)
        if whole != e:
            return self._print(whole)
        if e.operator in _CALLS:
            return f"{_CALLS[e.operator]}({self.text(e.a)}, {self.text(e.b)})", _ATOM
        if e.operator == "div" and not e.dtype.startswith("float"):
            return self._narrow(f"quotient({self.text(e.a)}, {self.text(e.b)})", _ATOM, e.dtype)
        sign, strength = _SIGNS[e.operator]
        left = strength + 1 if strength in (1, 7) else strength
        return self._narrow(f"{self._side(e.a, left)} {sign} {self._side(e.b, strength + 1)}", strength, e.dtype)

    def _side(self, e: Expr, least: int) -> str:
        text, strength = self._print(e)
        return text if strength >= least else f"({text})"

    @staticmethod
    def _narrow(text: str, strength: int, dtype: str) -> tuple[str, int]:
        if dtype in WIDE or dtype == "bool" or dtype.startswith("float"):
            return text, strength
        return f"{_constructor(dtype)}({text})", _ATOM


def literal(value: float | int | bool, dtype: str) -> str:
    """A constant that reads back exactly."""
    if dtype == "bool":
        return str(bool(value))
    if not dtype.startswith("float"):
        return str(int(value)) if dtype in WIDE else f"{_constructor(dtype)}({int(value)})"
    number = float(value)
    text = repr(number) if math.isfinite(number) else "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
    return f"{_constructor(dtype)}({text})"


def _constructor(dtype: str) -> str:
    return "np.bool_" if dtype == "bool" else f"np.{dtype}"
