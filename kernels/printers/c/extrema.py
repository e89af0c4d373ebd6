"""`min`, `max` and the clip of a number, with the processor's own instructions where it has them.

RISC-V and Arm's FPv5 return the other number where one is NaN, so NaN is kept by a test of its own, or not where
something else keeps it (`absorbed_nan.py`). A comparison and a jump for each bound take longer.
"""

from __future__ import annotations

from collections.abc import Mapping

# What a processor has for float and for double, as a condition of the preprocessor.
_HAS: Mapping[str, str] = {
    "float32": "defined(__riscv_flen) || defined(__ARM_FEATURE_NUMERIC_MAXMIN)",
    "float64": "defined(__riscv_flen) && (__riscv_flen >= 64)",
}

# name -> parameters, the result with the instruction (FMIN, FMAX), without.
_DEFINITIONS: Mapping[str, tuple[str, str, str]] = {
    "min_number": ("T a, T b", "FMIN(a, b)", "(b < a) ? b : a"),
    "max_number": ("T a, T b", "FMAX(a, b)", "(b > a) ? b : a"),
    "min_known": ("T a, T b", "(a == a) ? FMIN(a, b) : a", "(b < a) ? b : a"),
    "max_known": ("T a, T b", "(a == a) ? FMAX(a, b) : a", "(b > a) ? b : a"),
    "clip_known": (
        "T a, T low, T high",
        "(a == a) ? FMIN(FMAX(a, low), high) : a",
        "(high < m) ? high : m",
    ),
}

# What the result without the instruction is made of; where the bounds cross, the upper one holds.
_BEFORE: Mapping[str, str] = {"clip_known": "m = (low > a) ? low : a;"}

_NOTES: Mapping[str, str] = {
    "min_number": "Where one is NaN it may return either: who calls it keeps NaN.",
    "max_number": "Where one is NaN it may return either: who calls it keeps NaN.",
    "min_known": "b is never NaN.",
    "max_known": "b is never NaN.",
    "clip_known": "The bounds are never NaN.",
}

EXTREMA = frozenset(_DEFINITIONS)
"""What is defined here, for bare metal; hosts have vectors, in which a comparison is an instruction like these."""


def extremum_text(name: str, full_name: str, dtype: str, kind: str) -> list[str]:
    """The lines that define one of them under its full name, for a type that C calls `kind`."""
    suffix = "f" if dtype == "float32" else ""
    parameters, own, plain = _DEFINITIONS[name]
    own = own.replace("FMIN", f"__builtin_fmin{suffix}").replace("FMAX", f"__builtin_fmax{suffix}")
    return [
        f"/* {_NOTES[name]} */",
        f"static inline {kind} {full_name}({parameters.replace('T ', f'{kind} ')}) {{",
        f"#if {_HAS[dtype]}",
        f"    const {kind} r = {own};",
        "#else",
        *([f"    const {kind} {_BEFORE[name]}"] if name in _BEFORE else []),
        f"    const {kind} r = {plain};",
        "#endif",
        "    return r;",
        "}",
    ]
