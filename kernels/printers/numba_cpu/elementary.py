"""The functions of `elementary.py` as Python that Numba compiles, and LLVM makes vector code of."""

from __future__ import annotations

import math
from collections.abc import Iterable

from unfoldc.kernels.printers.elementary import Line, Spelling, formula

# The functions are inlined by LLVM, not by Numba, which takes longer to compile.
_PARTS = '''\
def bitcast(kinds):
    @intrinsic
    def operation(typing, a):
        kind = kinds[a]

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(kind))

        return kind(a), generate

    return operation


pattern = bitcast({types.float32: types.uint32, types.float64: types.uint64})
number = bitcast({types.uint32: types.float32, types.uint64: types.float64})


def extreme(sign):
    """Of a, which stays if it is NaN, and a constant b."""

    @intrinsic
    def operation(typing, a, b):
        def generate(context, builder, signature, arguments):
            a, b = arguments
            return builder.select(builder.fcmp_ordered(sign, b, a), b, a)

        return a(a, a), generate

    return operation


least, most = extreme("<"), extreme(">")
'''


class _Numba(Spelling):
    def number(self, value: float) -> str:
        text = repr(value) if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return f"np.{self.dtype}({text})"

    def whole(self, value: float) -> str:
        return self.number(value)

    def word(self, value: int) -> str:
        return f"np.uint{self.bits}({value:#x})"

    def shifted(self, word: str, places: int) -> str:
        return f"({word} {'<<' if places > 0 else '>>'} {self.word(abs(places))})"

    def pattern(self, x: str) -> str:
        return f"pattern({x})"

    def value(self, word: str) -> str:
        return f"number(np.uint{self.bits}({word}))"

    def choose(self, condition: str, a: str, b: str) -> str:
        return f"select({condition}, {a}, {b})"

    def least(self, a: str, b: float) -> str:
        return f"least({a}, {self.number(b)})"

    def most(self, a: str, b: float) -> str:
        return f"most({a}, {self.number(b)})"

    def absolute(self, a: str) -> str:
        return f"abs({a})"

    def line(self, line: Line) -> str:
        """A statement; words are cut to their size, which Numba's arithmetic extends."""
        kind, name, text = line
        if kind == "word":
            text = f"np.uint{self.bits}({text})"
        return f"return {text}" if kind == "return" else f"{name} = {text}"


def elementary_text(functions: Iterable[tuple[str, str]]) -> list[str]:
    """What a module needs to call the functions of these names and element types, as `<name>_<type>`."""
    made = []
    for name, dtype in sorted(functions):
        numba = _Numba(dtype)
        body = "".join(f"    {numba.line(line)}\n" for line in formula(name, numba))
        made.append(f"@njit(forceinline=True, **OPTIONS)\ndef {name}_{dtype}(a):\n{body}")
    return [_PARTS, *made] if made else []
