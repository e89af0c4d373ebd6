"""Expressions as Python that Numba compiles for CUDA, and that runs as it stands in the simulator."""

from __future__ import annotations

from collections.abc import Callable

from unfoldc.kernels.loops import Expr, Unary
from unfoldc.kernels.printers.numba_text import NumbaPrinter
from unfoldc.kernels.printers.python_text import Text


class CudaExpressions(NumbaPrinter):
    """`place(buffer, indices)` prints an element of a buffer."""

    calls = {
        "abs": "absolute", "sqrt": "sqrt", "exp": "exp", "log": "log", "tanh": "tanh", "erf": "erf", "sin": "sin",
        "cos": "cos", "floor": "floor", "ceil": "ceil", "round": "nearest", "isnan": "isnan", "fmod": "remainder",
        "min": "minimum", "max": "maximum", "pow": "power", "floordiv": "whole", "mod": "rest",
    }  # fmt: skip

    def __init__(self, name: Callable[[str, str], str], place: Callable[[str, tuple[Expr, ...]], str]) -> None:
        super().__init__(name)
        self._place = place

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element, wherever the buffer lives."""
        return self._place(buffer, indices)

    def unary(self, e: Unary) -> Text:
        """An operator of one operand; integers have an absolute value of their own."""
        if e.operator == "abs" and not e.dtype.startswith("float"):
            return self.narrow(self.call("magnitude", e.a), e.dtype)
        return super().unary(e)
