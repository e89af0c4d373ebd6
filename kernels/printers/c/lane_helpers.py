"""The small functions of `<symbol>_lanes.c`: the same as for one problem, on a vector with one element per problem.

Comparisons of vectors give masks, integers that are 0 or -1; a choice is made bit by bit.
"""

from __future__ import annotations

from typing import Protocol

from unfoldc.kernels.lane_indices import Stopping
from unfoldc.kernels.printers.c.lane_sums import SUMS, sums_of_rows
from unfoldc.kernels.printers.c.vector_comparisons import COMPARED, GUARDED, compared
from unfoldc.kernels.printers.c.vector_functions import vector_function
from unfoldc.kernels.printers.c.vector_root import root_by_estimate
from unfoldc.kernels.printers.c_api.lane_interface import vector_type
from unfoldc.kernels.printers.c_api.text import wrap
from unfoldc.kernels.printers.elementary import FUNCTIONS

# name -> parameters, body. V is the vector type, M the mask type, S the element type.
_VECTOR: dict[str, tuple[str, str]] = {
    "splat": ("S a", "return a - (V){0};"),
    "select": ("M c, V a, V b", "return (V)(((M)a & c) | ((M)b & ~c));"),
    "from_mask": ("M c", "return select(c, splat(1), splat(0));"),
    "min": ("V a, V b", "return select((a < b) | (a != a), a, b);"),
    "max": ("V a, V b", "return select((a > b) | (a != a), a, b);"),
    "min_known": ("V a, V b", "return select(b < a, b, a);"),
    "max_known": ("V a, V b", "return select(b > a, b, a);"),
    "abs": ("V a", "return select(a < splat(0), -a, a);"),
    "isnan": ("V a", "return a != a;"),
}

_EXCHANGE = "exchange"

# Operators that a processor has for whole vectors, and what clang calls them there.
_WHOLE = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint"}


class Calls(Protocol):
    """What a definition asks for: the names of other helpers and of library functions."""

    symbol: str
    guarded: bool

    def call(self, name: str, dtype: str, lanes: bool = False) -> str:
        """A helper."""

    def function(self, operator: str, dtype: str) -> str:
        """A library function."""


def exchange_name(places: Stopping, lanes: int) -> str:
    """The helper that puts the elements of a vector at these places of it."""
    direction = "back" if places.step < 0 else "on"
    return f"{_EXCHANGE}_{lanes}_{direction}_{abs(places.step)}_{places.first}_{places.last}"


def lane_helper(calls: Calls, name: str, dtype: str) -> list[str]:
    """The definition of a helper for vectors of `dtype`."""
    solver = calls.symbol.removesuffix("_lanes")
    vector, mask = vector_type(solver, dtype), vector_type(solver, dtype, mask=True)
    result = mask if name == "isnan" else vector
    own = f"{calls.symbol}_{name}_{dtype}_v"
    if (name, dtype) in FUNCTIONS:
        return vector_function(calls, name, dtype, vector)
    if name.startswith(SUMS):
        return sums_of_rows(own, int(name.removeprefix(SUMS)), dtype, vector)
    if name == "turned":
        return _turned(calls, vector, own)
    if name == "sqrt_of_many":
        exact = _by_element(calls, "sqrt", dtype, vector, own)
        return root_by_estimate(own, exact, vector, f"{solver}_LANES")
    if name.startswith(_EXCHANGE):
        return _exchange(name, vector, own)
    if name == COMPARED:
        return compared(own, vector)
    if name not in _VECTOR:
        return _by_element(calls, name, dtype, vector, own)
    parameters, body = (_VECTOR | GUARDED if calls.guarded else _VECTOR)[name]
    for other in ("splat", "select", COMPARED):
        if f"{other}(" in body:
            body = body.replace(f"{other}(", f"{calls.call(other, dtype, lanes=True)}(")
    kind = {"float32": "float", "float64": "double"}[dtype]
    for letter, word in (("V", vector), ("M", mask), ("S", kind)):
        parameters = parameters.replace(f"{letter} ", f"{word} ")
        body = body.replace(f"({letter})", f"({word})")
    return [f"static inline {result} {own}({parameters}) {{", *wrap(f"    {body}"), "}"]


def _turned(calls: Calls, vector: str, own: str) -> list[str]:
    """The halves exchanged, for which compilers find the processor's instruction."""
    count = f"{calls.symbol.removesuffix('_lanes')}_LANES"
    return [
        f"static inline {vector} {own}({vector} a) {{",
        f"    {vector} r;",
        f"    for (int l = 0; l < {count}; l++) {{",
        f"        r[l] = a[(l + ({count} / 2)) % {count}];",
        "    }",
        "    return r;",
        "}",
    ]


def _exchange(name: str, vector: str, own: str) -> list[str]:
    lanes, direction, step, first, last = name.removeprefix(f"{_EXCHANGE}_").split("_")
    moved = int(step) * (-1 if direction == "back" else 1)
    places = (min(max(i + moved, int(first)), int(last)) for i in range(int(lanes)))
    elements = ", ".join(f"a[{p}]" for p in places)
    return [f"static inline {vector} {own}({vector} a) {{", *wrap(f"    return ({vector}){{{elements}}};"), "}"]


def _by_element(calls: Calls, name: str, dtype: str, vector: str, own: str) -> list[str]:
    """A library function on each element in turn, unless the compiler makes one instruction of them all."""
    two = name in ("pow", "fmod")
    lines = [
        f"    for (int l = 0; l < {calls.symbol.removesuffix('_lanes')}_LANES; l++) {{",
        f"        r[l] = {calls.function(name, dtype)}(a[l]{', b[l]' if two else ''});",
        "    }",
    ]
    if name in _WHOLE:
        whole = f"    r = __builtin_elementwise_{_WHOLE[name]}(a);"
        lines = ["#if defined(__clang__) && __clang_major__ >= 17", whole, "#else", *lines, "#endif"]
    head = f"static inline {vector} {own}({vector} a{f', {vector} b' if two else ''}) {{"
    return [head, f"    {vector} r;", *lines, "    return r;", "}"]
