"""The small functions that generated C calls: choices that keep NaN, and vector forms of mathematical functions."""

from __future__ import annotations

from collections.abc import Iterable

from unfoldc.kernels.printers.c.expressions import math_name
from unfoldc.kernels.printers.c_api.text import C_TYPES

_SCALAR = {
    "min": "(a < b || a != a) ? a : b",
    "max": "(a > b || a != a) ? a : b",
    "min_known": "b < a ? b : a",
    "max_known": "b > a ? b : a",
    "abs": "a < 0 ? -a : a",
}
_UNARY = ("abs", "sqrt", "exp", "log", "tanh", "erf", "sin", "cos", "floor", "ceil", "round")


def helper_texts(symbol: str, used: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Definitions, sorted by name, of the helpers (name, element type, vector?) that a file uses."""
    wanted = set(used)
    for name, dtype, varying in list(wanted):
        if varying and name in ("min", "max", "min_known", "max_known", "abs", "from_mask"):
            wanted |= {("select", dtype, True)}
        if varying and name in ("abs", "from_mask"):
            wanted |= {("splat", dtype, True)}
    order = {"splat": 0, "select": 1}
    return [_define(symbol, *h) for h in sorted(wanted, key=lambda h: (order.get(h[0], 2), h))]


def math_declarations(operators: Iterable[tuple[str, str]]) -> list[str]:
    """`float expf(float);`: declared by hand, so that no math.h is needed where there is no C library."""
    lines = []
    for operator, dtype in sorted(set(operators)):
        kind = C_TYPES[dtype]
        arguments = f"{kind}, {kind}" if operator == "pow" else kind
        lines.append(f"{kind} {math_name(operator, dtype)}({arguments});")
    return lines


def _define(symbol: str, name: str, dtype: str, varying: bool) -> str:
    kind = C_TYPES[dtype]
    if not varying:
        arguments = f"{kind} a" if name in _UNARY else f"{kind} a, {kind} b"
        return f"static inline {kind} {symbol}_{name}_{dtype}({arguments}) {{ return {_SCALAR[name]}; }}"
    bits = dtype.removeprefix("float")
    v, m = f"{symbol}_v{bits}", f"{symbol}_m{bits}"
    select, splat = f"{symbol}_select_{dtype}_v", f"{symbol}_splat_{dtype}_v"
    full = f"static inline {{}} {symbol}_{name}_{dtype}_v({{}}) {{{{ {{}} }}}}"
    if name == "splat":
        return full.format(v, f"{kind} a", f"return a - ({v}){{0}};").replace("{{", "{").replace("}}", "}")
    if name == "select":
        body = f"return ({v})((({m})a & c) | (({m})b & ~c));"
        return f"static inline {v} {select}({m} c, {v} a, {v} b) {{ {body} }}"
    if name == "from_mask":
        return f"static inline {v} {symbol}_{name}_{dtype}_v({m} c) {{ return {select}(c, {splat}(1), {splat}(0)); }}"
    if name in ("min", "max"):
        sign = "<" if name == "min" else ">"
        return f"static inline {v} {symbol}_{name}_{dtype}_v({v} a, {v} b) {{ return {select}((a {sign} b) | (a != a), a, b); }}"
    if name in ("min_known", "max_known"):
        sign = "<" if name == "min_known" else ">"
        return f"static inline {v} {symbol}_{name}_{dtype}_v({v} a, {v} b) {{ return {select}(b {sign} a, b, a); }}"
    if name == "abs":
        return f"static inline {v} {symbol}_{name}_{dtype}_v({v} a) {{ return {select}(a < {splat}(0), -a, a); }}"
    call, arguments = math_name(name, dtype), f"{v} a" + (f", {v} b" if name == "pow" else "")
    inner = "a[l], b[l]" if name == "pow" else "a[l]"
    return (
        f"static inline {v} {symbol}_{name}_{dtype}_v({arguments}) "
        f"{{ {v} r; for (int l = 0; l < {symbol}_LANES; l++) r[l] = {call}({inner}); return r; }}"
    )
