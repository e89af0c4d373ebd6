"""Expressions as Python that Numba compiles for a processor, with formulas for what its library has slowly."""

from __future__ import annotations

from collections.abc import Callable

from unfoldc.kernels.loops import Expr, Unary
from unfoldc.kernels.printers.elementary import FUNCTIONS
from unfoldc.kernels.printers.expressions import bounded, flatten
from unfoldc.kernels.printers.numba_text import NumbaPrinter
from unfoldc.kernels.printers.python_text import Text


class NumbaExpressions(NumbaPrinter):
    """Buffers are pointers to their elements, named in the role `buffer`; `shape` gives a buffer's shape.

    Operators that have a formula are collected in `functions`, each with its element type.
    """

    calls = {
        "abs": "abs", "sqrt": "sqrt", "sin": "math.sin", "cos": "math.cos", "floor": "floor", "ceil": "ceil",
        "round": "nearest", "isnan": "isnan", "fmod": "np.fmod", "min": "minimum", "max": "maximum",
    }  # fmt: skip

    def __init__(
        self, name: Callable[[str, str], str], shape: Callable[[str], tuple[int, ...]], functions: set[tuple[str, str]]
    ) -> None:
        super().__init__(name)
        self._shape = shape
        self._functions = functions

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element, at its row-major position."""
        shape = self._shape(buffer)
        return f"{self.name(buffer, 'buffer')}[{self.text(flatten(bounded(indices, shape), shape))}]"

    def unary(self, e: Unary) -> Text:
        """An operator of one operand, cut back to its type; those with a formula are functions of the module."""
        if (e.operator, e.dtype) in FUNCTIONS:
            self._functions.add((e.operator, e.dtype))
            return self.call(f"{e.operator}_{e.dtype}", e.a)
        return super().unary(e)
