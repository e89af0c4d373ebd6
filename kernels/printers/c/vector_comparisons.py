"""Comparisons of vectors that clang does not turn over.

On Arm's Helium "less" and "less or equal" are the opposites of "greater or equal" and "greater", so that they hold
where a number is NaN. Clang 22 forgets that when it exchanges the sides, which it does where one of them is zero or one
number for all elements: `x < 0 ? 0 : x` then makes 0 of NaN. A side that it knows nothing of stays where it is. For the
same reason it must not make vectors of loops by itself there (`targets/cores.py`).
"""

from __future__ import annotations

COMPARED = "compared"
"""The helper that gives a vector back, of which the compiler then knows nothing."""

HELIUM = "defined(__clang__) && defined(__ARM_FEATURE_MVE)"

# The helpers of `lane_helpers.py` that compare.
GUARDED = {
    "min": ("V a, V b", "return select((a < compared(b)) | (a != compared(a)), a, b);"),
    "max": ("V a, V b", "return select((a > compared(b)) | (a != compared(a)), a, b);"),
    "min_known": ("V a, V b", "return select(compared(b) < a, b, a);"),
    "max_known": ("V a, V b", "return select(compared(b) > a, b, a);"),
    "isnan": ("V a", "return a != compared(a);"),
}


def compared(own: str, vector: str) -> list[str]:
    """The definition of the helper, called `own`, for vectors of the type `vector`."""
    return [
        f"static inline {vector} {own}({vector} a) {{",
        f"#if {HELIUM}",
        '    __asm__("" : "+w"(a));',
        "#endif",
        "    return a;",
        "}",
    ]
