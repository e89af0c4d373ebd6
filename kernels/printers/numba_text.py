"""What the printers for Numba share: expressions as Python that it compiles, and intrinsics as text.

Numba computes integers in 64 bits and has no literals of other types, so constants are wrapped in their type and
results of narrow integers are cut back to it; int32 and int64 are left alone, since overflow is not defined for them.
"""

from __future__ import annotations

import math

from unfoldc.kernels.loops import Binary, Expr, Load, Unary, Var
from unfoldc.kernels.printers.expressions import simplify
from unfoldc.kernels.printers.python_text import ATOM, PythonPrinter, Text

_COMPARISON = 1
_WIDE = frozenset({"int32", "int64", "bool", "float32", "float64"})


class NumbaPrinter(PythonPrinter):
    """Prints everything but elements; the module that it prints for has a function `quotient` for integers."""

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

    def cast(self, a: Expr, dtype: str) -> Text:
        """A conversion; a loop variable has 64 bits already."""
        if dtype == a.dtype or (dtype == "int64" and isinstance(a, Var)):
            return self.print(a)
        if dtype == "bool":
            return f"{self.side(a, 2)} != {self.literal(0, a.dtype)}", _COMPARISON
        return self.call(f"np.{dtype}", a)

    def unary(self, e: Unary) -> Text:
        """An operator of one operand, cut back to its type."""
        return self.narrow(super().unary(e), e.dtype)

    def binary(self, e: Binary) -> Text:
        """An operator of two operands, integers simplified, the result cut back to its type."""
        whole = simplify(e)
        if whole != e:
            return self.print(whole)
        integers = e.operator == "div" and not e.dtype.startswith("float")
        return self.narrow(self.call("quotient", e.a, e.b) if integers else super().binary(e), e.dtype)

    @staticmethod
    def narrow(text: Text, dtype: str) -> Text:
        """A result as a number of its type."""
        return text if dtype in _WIDE else (f"np.{dtype}({text[0]})", ATOM)


SELECT = """\
@intrinsic
def select(typing, condition, a, b):
    kind = typing.unify_types(a, b)

    def generate(context, builder, signature, arguments):
        flag = context.cast(builder, arguments[0], signature.args[0], types.boolean)
        return builder.select(flag, arguments[1], arguments[2])

    return kind(types.boolean, kind, kind), generate
"""
"""One of two values by a condition, without branches."""

IS_NAN = """\
@intrinsic
def isnan(typing, a):
    def generate(context, builder, signature, arguments):
        return builder.fcmp_unordered("uno", arguments[0], arguments[0])

    return types.boolean(a), generate
"""
