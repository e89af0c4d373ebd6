"""Small pieces of C text: types, literals, comments. Nothing from a model file goes into C but numbers and comments."""

from __future__ import annotations

import re
import textwrap

import numpy as np

from unfoldc.kernels.loops import Const

C_TYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "int32_t",
    "int64": "int64_t",
    "bool": "uint8_t",
}
WIDTH = 110
# Where a line may be broken: before an operator, after a comma; products and the assignment last.
_BREAK = re.compile(r" (?=[-+?:] |&& |\|\| )|(?<=,) | (?=[*/%] )|(?<= =) ")


def literal(c: Const) -> str:
    """The constant as C; it reads back exactly."""
    return number(c.value, c.dtype)


def number(value: float | int | bool, dtype: str) -> str:
    """A C literal of an element type: the shortest decimal that reads back exactly."""
    if dtype == "bool":
        return "1" if value else "0"
    if dtype.startswith("int"):
        return _integer(int(value), dtype)
    suffix = "f" if dtype == "float32" else ""
    if np.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if np.isinf(value):
        return f"{'-' if value < 0 else ''}__builtin_inf{suffix}()"
    text = repr(float(value)) if dtype == "float64" else str(np.float32(value))
    return with_point(text) + suffix


def with_point(text: str) -> str:
    """A decimal that C reads as a floating-point number."""
    return text if "." in text or "e" in text else text + ".0"


def _integer(value: int, dtype: str) -> str:
    if value == np.iinfo(dtype).min:  # C has no negative literals, and the magnitude does not fit
        return f"{dtype.upper()}_MIN"
    if dtype == "int32":
        return str(value)
    return f"{'-' if value < 0 else ''}INT64_C({abs(value)})"


def clean(name: str) -> str:
    """A name from a model file as it may stand in a comment: 40 characters of [A-Za-z0-9_.]."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:40]


def comment(origins: tuple[str, ...], most: int = 6) -> list[str]:
    """`/* from node_a MatMul, node_b Add */`, in lines, or nothing; an origin reads `name (Operator)`."""
    if not origins:
        return []
    parts = []
    for origin in origins[:most]:
        name, found, operator = origin.rpartition(" (")
        parts.append(f"{clean(name)} {clean(operator.removesuffix(')'))}" if found else clean(origin))
    more = f" and {len(origins) - most} more" if len(origins) > most else ""
    text = f"/* from {', '.join(parts)}{more} */"
    return textwrap.wrap(text, WIDTH - 20, subsequent_indent=" * ", break_long_words=False, break_on_hyphens=False)


def wrap(line: str) -> list[str]:
    """A line of code, broken where it is too long: outside brackets rather than inside, between sums first."""
    pad = " " * (len(line) - len(line.lstrip()) + 8)
    lines: list[str] = []
    while len(line) > WIDTH:
        breaks = [m for m in _BREAK.finditer(line) if len(pad) < m.start() <= WIDTH]
        if not breaks:
            break
        at = min(
            breaks,
            key=lambda m: (_depth(line[: m.start()]), line[m.end()] in "*/%", line[m.start() - 1] == "=", -m.start()),
        )
        lines.append(line[: at.start()])
        line = pad + line[at.end() :]
    return [*lines, line]


def _depth(text: str) -> int:
    return text.count("(") + text.count("[") - text.count(")") - text.count("]")
