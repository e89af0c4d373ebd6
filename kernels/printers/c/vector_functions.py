"""The functions of `elementary.py` in C, for one number or for a GNU vector of them."""

from __future__ import annotations

from typing import Protocol

from unfoldc.kernels.printers.c.vector_comparisons import COMPARED
from unfoldc.kernels.printers.c_api.text import C_TYPES, number, wrap
from unfoldc.kernels.printers.elementary import Line, Spelling, formula

PARTS = frozenset({"bits", "value"})
"""What the functions of one number are made of."""


class Calls(Protocol):
    """What a definition asks for: the names of other helpers."""

    symbol: str
    guarded: bool

    def call(self, name: str, dtype: str, lanes: bool = False) -> str:
        """A helper."""


class _C(Spelling):
    """`vector` names the type of the vectors; it is empty for one number."""

    def __init__(self, calls: Calls, dtype: str, vector: str) -> None:
        super().__init__(dtype)
        self.calls, self.vector = calls, vector
        self.type = vector or C_TYPES[dtype]
        self.words = "words" if vector else f"uint{self.bits}_t"

    def number(self, value: float) -> str:
        return number(value, self.dtype)

    def whole(self, value: float) -> str:
        if not self.vector:
            return self.number(value)
        splat = f"{self._helper('splat')}({self.number(value)})"
        return f"{self._helper(COMPARED)}({splat})" if self.calls.guarded else splat

    def word(self, value: int) -> str:
        return f"0x{value:08x}u" if self.bits == 32 else f"UINT64_C(0x{value:016x})"

    def shifted(self, word: str, places: int) -> str:
        return f"({word} {'<<' if places > 0 else '>>'} {abs(places)})"

    def pattern(self, x: str) -> str:
        return f"(words)({x})" if self.vector else f"{self._helper('bits')}({x})"

    def value(self, word: str) -> str:
        return f"({self.vector})({word})" if self.vector else f"{self._helper('value')}({word})"

    def choose(self, condition: str, a: str, b: str) -> str:
        return f"{self._helper('select')}({condition}, {a}, {b})" if self.vector else f"({condition}) ? {a} : {b}"

    def least(self, a: str, b: float) -> str:
        return f"{self._helper('min_known')}({a}, {self.whole(b)})"

    def most(self, a: str, b: float) -> str:
        return f"{self._helper('max_known')}({a}, {self.whole(b)})"

    def absolute(self, a: str) -> str:
        return f"{self._helper('abs')}({a})"

    def line(self, line: Line) -> str:
        """A statement."""
        kind, name, text = line
        heads = {"number": f"const {self.type} {name} = ", "word": f"const {self.words} {name} = "}
        heads |= {"variable": f"{self.type} {name} = ", "assign": f"{name} = ", "return": "return "}
        return f"{heads[kind]}{text};"

    def _helper(self, name: str) -> str:
        return self.calls.call(name, self.dtype, lanes=bool(self.vector))


def vector_function(calls: Calls, name: str, dtype: str, vector: str = "") -> list[str]:
    """The definition of a function that has a formula, for one number or for the GNU vector type `vector`."""
    c = _C(calls, dtype, vector)
    body = [c.line(line) for line in formula(name, c)]
    if vector:
        body.insert(0, f"typedef uint{c.bits}_t words __attribute__((vector_size(sizeof({vector}))));")
    head = f"static inline {c.type} {calls.symbol}_{name}_{dtype}{'_v' if vector else ''}({c.type} a) {{"
    return [head, *(part for line in body for part in wrap(f"    {line}")), "}"]


def part(calls: Calls, name: str, dtype: str) -> list[str]:
    """The definition of one of `PARTS`: `bits` of a number, or the `value` of bits."""
    members = {"bits": f"uint{dtype.removeprefix('float')}_t bits;", "value": f"{C_TYPES[dtype]} value;"}
    other = "value" if name == "bits" else "bits"
    result, parameter = (members[n].split()[0] for n in (name, other))
    return [
        f"static inline {result} {calls.symbol}_{name}_{dtype}({parameter} a) {{",
        f"    const union {{ {members[other]} {members[name]} }} both = {{a}};",
        f"    return both.{name};",
        "}",
    ]
