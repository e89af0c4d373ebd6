"""Expressions as Python that Numba compiles for CUDA, and that runs as it stands in the simulator."""

from __future__ import annotations

import math
from collections.abc import Callable

from unfoldc.kernels.loops import Binary, Expr, Load, Unary, Var
from unfoldc.kernels.printers.expressions import simplify
from unfoldc.kernels.printers.python_text import ATOM, PythonPrinter, Text

_COMPARISON = 1
# Numba computes integers in 64 bits; overflow of these two is not defined.
_WIDE = frozenset({"int32", "int64", "bool", "float32", "float64"})


class CudaExpressions(PythonPrinter):
    """`place(buffer, indices)` prints an element of a buffer."""

    calls = {
        "abs": "absolute", "sqrt": "sqrt", "exp": "exp", "log": "log", "tanh": "tanh", "erf": "erf", "sin": "sin",
        "cos": "cos", "floor": "floor", "ceil": "ceil", "round": "nearest", "isnan": "isnan", "fmod": "remainder",
        "min": "minimum", "max": "maximum", "pow": "power", "floordiv": "whole", "mod": "rest",
    }  # fmt: skip

    def __init__(self, name: Callable[[str, str], str], place: Callable[[str, tuple[Expr, ...]], str]) -> None:
        super().__init__(name)
        self._place = place

    def print(self, e: Expr) -> Text:
        """The expression and its strength; an element of type bool is a byte."""
        text, strength = super().print(e)
        return (f"{text} != 0", _COMPARISON) if isinstance(e, Load) and e.dtype == "bool" else (text, strength)

    def literal(self, value: float | int | bool, dtype: str) -> str:
        """A constant that reads back exactly."""
        if dtype == "bool":
            return str(bool(value))
        if not dtype.startswith("float"):
            return str(int(value)) if dtype in _WIDE else f"np.{dtype}({int(value)})"
        number = float(value)
        special = "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
        return f"np.{dtype}({repr(number) if math.isfinite(number) else special})"

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element, wherever the buffer lives."""
        return self._place(buffer, indices)

    def cast(self, a: Expr, dtype: str) -> Text:
        """A conversion; a loop variable has 64 bits already."""
        if dtype == a.dtype or (dtype == "int64" and isinstance(a, Var)):
            return self.print(a)
        if dtype == "bool":
            return f"{self.side(a, 2)} != {self.literal(0, a.dtype)}", _COMPARISON
        return self.call(f"np.{dtype}", a)

    def unary(self, e: Unary) -> Text:
        """An operator of one operand, cut back to its type."""
        if e.operator == "abs" and not e.dtype.startswith("float"):
            return self._narrow(self.call("magnitude", e.a), e.dtype)
        return self._narrow(super().unary(e), e.dtype)

    def binary(self, e: Binary) -> Text:
        """An operator of two operands, integers simplified, the result cut back to its type."""
        whole = simplify(e)
        if whole != e:
            return self.print(whole)
        integers = e.operator == "div" and not e.dtype.startswith("float")
        return self._narrow(self.call("quotient", e.a, e.b) if integers else super().binary(e), e.dtype)

    @staticmethod
    def _narrow(text: Text, dtype: str) -> Text:
        return text if dtype in _WIDE else (f"np.{dtype}({text[0]})", ATOM)
