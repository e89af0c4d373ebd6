"""Small pieces of C text: types, literals and comments. Nothing from a model file goes into C but numbers and comments."""

from __future__ import annotations

import re

import numpy as np

from unfoldc.kernels.loops import Const

C_TYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "int32_t",
    "int64": "int64_t",
    "bool": "uint8_t",
}


def literal(c: Const) -> str:
    """The shortest decimal that reads back exactly."""
    return number(c.value, c.dtype)


def number(value: float | int | bool, dtype: str) -> str:
    """A C literal of the given element type."""
    if dtype == "bool":
        return "1" if value else "0"
    if dtype.startswith("int"):
        text = str(int(value))
        if dtype == "int64":
            text = f"INT64_C({text})" if int(value) != -(2**63) else "INT64_MIN"
        return text if int(value) >= 0 else f"({text})"
    suffix = "f" if dtype == "float32" else ""
    if np.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if np.isinf(value):
        return f"{'-' if value < 0 else ''}__builtin_inf{suffix}()"
    text = repr(float(value)) if dtype == "float64" else str(np.float32(value))
    if "." not in text and "e" not in text:
        text += ".0"
    return f"({text}{suffix})" if text.startswith("-") else text + suffix


def clean(name: str) -> str:
    """A name from a model file as it may stand in a comment: 40 characters of [A-Za-z0-9_.]."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:40]


def comment(origins: tuple[str, ...], most: int = 6) -> str:
    """`/* from node_a MatMul, node_b Add */`, or nothing; an origin reads `name (Operator)`."""
    if not origins:
        return ""
    parts = []
    for origin in origins[:most]:
        name, _, operator = origin.rpartition(" (")
        parts.append(f"{clean(name)} {clean(operator.rstrip(')'))}")
    more = f" and {len(origins) - most} more" if len(origins) > most else ""
    return f"/* from {', '.join(parts)}{more} */"
