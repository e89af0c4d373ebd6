"""The functions of `elementary.py` in TVM's script: lines of constants, for one number or for a vector of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from unfoldc.kernels.printers.elementary import Spelling, formula

Line = Callable[[str, str, str], str]
"""Declares a constant: (name, element type, text) -> how it is read."""


class _Tvm(Spelling):
    """`lanes` numbers at a time; literals in arithmetic are spread by TVM itself."""

    def __init__(self, dtype: str, lanes: int, literal: Callable[[float | int, str], str]) -> None:
        super().__init__(dtype)
        self.lanes, self.literal = lanes, literal
        self.suffix = f"x{lanes}" if lanes > 1 else ""

    def number(self, value: float) -> str:
        return self.literal(value, self.dtype)

    def whole(self, value: float) -> str:
        return self._spread(self.number(value))

    def word(self, value: int) -> str:
        return self._spread(self.literal(value, f"uint{self.bits}"))

    def shifted(self, word: str, places: int) -> str:
        return f"T.shift_{'left' if places > 0 else 'right'}({word}, {self.word(abs(places))})"

    def pattern(self, x: str) -> str:
        return f'T.reinterpret("uint{self.bits}{self.suffix}", {x})'

    def value(self, word: str) -> str:
        return f'T.reinterpret("{self.dtype}{self.suffix}", {word})'

    def choose(self, condition: str, a: str, b: str) -> str:
        return f"T.Select({condition}, {a}, {b})"

    def least(self, a: str, b: float) -> str:
        return self.choose(f"{self.whole(b)} < ({a})", self.whole(b), a)

    def most(self, a: str, b: float) -> str:
        return self.choose(f"{self.whole(b)} > ({a})", self.whole(b), a)

    def absolute(self, a: str) -> str:
        return f"T.abs({a})"

    def _spread(self, text: str) -> str:
        return f"T.Broadcast({text}, {self.lanes})" if self.lanes > 1 else text


def elementary(
    name: str, dtype: str, lanes: int, argument: str, literal: Callable[[float | int, str], str], declare: Line
) -> str:
    """The function of `argument`, the text of an expression: declares what it is made of, returns how it is read."""
    named = {"a": declare("a", dtype, argument)}
    spelling = _Tvm(dtype, lanes, literal)
    for kind, own, text in formula(name, spelling):
        text = re.sub(r"\b[a-z]\b(?!\()", lambda m: named.get(m[0], m[0]), text)
        own = own or "r"
        named[own] = declare(own, f"uint{spelling.bits}" if kind == "word" else dtype, text)
    return named["r"]
