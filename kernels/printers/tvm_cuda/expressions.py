"""Expressions of a kernel in TVM's script: as in functions for a processor, but for where elements and scalars are."""

from __future__ import annotations

from collections.abc import Callable

from unfoldc.kernels.loops import COMPARISONS, Binary, Cast, Const, Expr, Load, Local, Unary, Var
from unfoldc.kernels.printers.python_text import ATOM, Names, Text
from unfoldc.kernels.printers.tvm.expressions import Places, TvmExpressions

# TVM has functions for these, which it turns into less exact ones on a GPU, or none.
_LIBRARY = frozenset({"exp", "log", "tanh", "erf", "sin", "cos"})
# C computes these in 32 bits and keeps all of them; a cast to the type that TVM believes them to have is none to it.
_NARROW = frozenset({"int8", "uint8", "int16", "uint16"})
_COMPARISON = 1

Element = Callable[[str, tuple[Expr, ...]], str]
"""Prints an element: (buffer, indices) -> text."""


class KernelExpressions(TvmExpressions):
    """Prints the expressions of one kernel.

    Scalars live as long as the kernel, each as an array of one element: `scalars` collects them with their types.
    `variables` says how a variable is read that is no loop's own.
    """

    def __init__(self, names: Names, place: Element, known: frozenset[str]) -> None:
        super().__init__(names, Places({}, lambda _: (), known))
        self._place = place
        self.scalars: dict[str, str] = {}
        self.variables: dict[str, str] = {}

    def print(self, e: Expr) -> Text:
        """The expression and its strength; an element of type bool is a byte."""
        if isinstance(e, Var) and e.name in self.variables:
            return self.variables[e.name], ATOM
        text, strength = super().print(e)
        return (f"{text} != T.uint8(0)", _COMPARISON) if isinstance(e, Load) and e.dtype == "bool" else (text, strength)

    def fresh(self, name: str) -> str:
        """An identifier that nothing else has."""
        self._count += 1
        return self.name(f"{name}_{self._count}", "variable")

    def local(self, name: str, dtype: str) -> str:
        """The value of a scalar, or the scalar to be set."""
        identifier = self.name(name, dtype)
        self.scalars[identifier] = dtype
        return f"{identifier}[0]"

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element, wherever the buffer lives."""
        return self._place(buffer, indices)

    def unary(self, e: Unary) -> Text:
        """An operator of one operand."""
        if e.operator in _LIBRARY and e.dtype.startswith("float"):
            name = e.operator + ("f" if e.dtype == "float32" else "")
            return f'T.call_pure_extern("{e.dtype}", "{name}", {self.text(e.a)})', ATOM
        if e.dtype in _NARROW:
            return self.cast(Unary(e.operator, Cast(e.a, "int32"), "int32"), e.dtype)
        return super().unary(e)

    def binary(self, e: Binary) -> Text:
        """An operator of two operands."""
        if e.dtype in _NARROW and e.operator not in COMPARISONS:
            return self.cast(Binary(e.operator, Cast(e.a, "int32"), Cast(e.b, "int32"), "int32"), e.dtype)
        return super().binary(e)

    def _kept(self, e: Expr) -> Expr:
        """A factor as it is, but a literal 0 as a scalar, which TVM does not look into."""
        if not isinstance(e, Const) or e.value:
            return e
        name = f"zero_{e.dtype}"
        self.zeros[e.dtype] = self.local(name, e.dtype)
        return Local(name, e.dtype)
