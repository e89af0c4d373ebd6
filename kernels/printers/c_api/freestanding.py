"""Mathematical functions that compilers' run-time libraries lack where there is no C library.

`exp`, `log`, `sin`, `cos`, `sqrt`, `floor` and `ceil` are there on bare metal; `tanhf`, `erff`, `rintf` and
`powf` are not. The first two are among those of `elementary.py`. Those below are good to a relative error of 1e-6
and keep NaN and infinities, but not signed zeros. None relies on the order of additions, which the compiler may change.
"""

from __future__ import annotations

from collections.abc import Mapping

Function = tuple[str, str]

# From 2^23 on a float has no fraction. NaN fails both tests.
_RINT = """\
static inline float @rintf(float a) {
    float r = a;
    if ((a > -8388608.0f) && (a < 8388608.0f)) {
        const int32_t cut = (int32_t)a;
        const float rest = (a < 0.0f) ? ((float)cut - a) : (a - (float)cut);
        const float away = (a < 0.0f) ? -1.0f : 1.0f;
        r = ((rest > 0.5f) || ((rest == 0.5f) && ((cut % 2) != 0))) ? ((float)cut + away) : (float)cut;
    }
    return r;
}
"""

# The product with the logarithm needs more digits than a float has. From 2^24 on every float is an even number.
_POW = """\
static inline float @powf(float a, float b) {
    const float t = (a < 0.0f) ? -a : a;
    const int32_t cut = ((b > -16777216.0f) && (b < 16777216.0f)) ? (int32_t)b : 0;
    const float whole = ((b > -16777216.0f) && (b < 16777216.0f)) ? (float)cut : b;
    float r;
    if (b == 2.0f) {
        r = a * a;
    } else if ((b == 0.0f) || (a == 1.0f)) {
        r = 1.0f;
    } else if ((a != a) || (b != b)) {
        r = a + b;
    } else if ((a < 0.0f) && (whole != b) && (t <= 3.40282347e38f)) {
        r = __builtin_nanf("");
    } else {
        const double power = (t == 1.0f) ? 1.0 : exp((double)b * log((double)t));
        r = ((a < 0.0f) && ((cut % 2) != 0) && (whole == b)) ? -(float)power : (float)power;
    }
    return r;
}
"""

# Instructions for one number on a Cortex-M4: `exp` 45, 83 in the library; `tanh` 46, which took 94 with branches around
# the library's `exp`; `erf` 67, which took 91. `log` has 66, the library's 62, and software arithmetic needs more.
BRANCHLESS = frozenset({("exp", "float32"), ("tanh", "float32"), ("erf", "float32")})
"""Operators and element types that bare metal, too, takes from `elementary.py`."""

FREESTANDING: Mapping[str, tuple[tuple[Function, ...], str]] = {
    "rintf": ((), _RINT),
    "powf": ((("exp", "float64"), ("log", "float64")), _POW),
}
"""C function -> what it calls (operator, element type), and its definition, with `@` before its own name."""
