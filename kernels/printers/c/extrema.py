"""`min`, `max` and the clip of a number, with the processor's own instructions where it has them.

RISC-V and Arm's FPv5 return the other number where one is NaN, so NaN is kept by a test of its own, or not where
something else keeps it (`absorbed_nan.py`). A comparison and a jump for each bound take longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What a processor has for float and for double, as a condition of the preprocessor.
_HAS: Mapping[str, str] = {
    "float32": "defined(__riscv_flen) || defined(__ARM_FEATURE_NUMERIC_MAXMIN)",
    "float64": "defined(__riscv_flen) && (__riscv_flen >= 64)",
}


@dataclass(frozen=True)
class _Extremum:
    """A helper: its result by the instructions FMIN and FMAX, and without them, when `before` has been computed."""

    parameters: str
    own: str
    plain: str
    note: str
    before: str = ""


_EITHER = "Where one is NaN it may return either: who calls it keeps NaN."
_DEFINITIONS: Mapping[str, _Extremum] = {
    "min_number": _Extremum("T a, T b", "FMIN(a, b)", "(b < a) ? b : a", _EITHER),
    "max_number": _Extremum("T a, T b", "FMAX(a, b)", "(b > a) ? b : a", _EITHER),
    "min_known": _Extremum("T a, T b", "(a == a) ? FMIN(a, b) : a", "(b < a) ? b : a", "b is never NaN."),
    "max_known": _Extremum("T a, T b", "(a == a) ? FMAX(a, b) : a", "(b > a) ? b : a", "b is never NaN."),
    "clip_known": _Extremum(
        "T a, T low, T high",
        "(a == a) ? FMIN(FMAX(a, low), high) : a",
        "(high < m) ? high : m",  # where the bounds cross, the upper one holds
        "The bounds are never NaN.",
        before="m = (low > a) ? low : a;",
    ),
}

EXTREMA = frozenset(_DEFINITIONS)
"""What is defined here, for bare metal; hosts have vectors, in which a comparison is an instruction like these."""


def extremum_text(name: str, full_name: str, dtype: str, kind: str) -> list[str]:
    """The lines that define one of them under its full name, for a type that C calls `kind`."""
    helper, suffix = _DEFINITIONS[name], "f" if dtype == "float32" else ""
    own = helper.own.replace("FMIN", f"__builtin_fmin{suffix}").replace("FMAX", f"__builtin_fmax{suffix}")
    return [
        f"/* {helper.note} */",
        f"static inline {kind} {full_name}({helper.parameters.replace('T ', f'{kind} ')}) {{",
        f"#if {_HAS[dtype]}",
        f"    const {kind} r = {own};",
        "#else",
        *([f"    const {kind} {helper.before}"] if helper.before else []),
        f"    const {kind} r = {helper.plain};",
        "#endif",
        "    return r;",
        "}",
    ]
