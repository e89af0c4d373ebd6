"""Mathematical functions that compilers' run-time libraries lack where there is no C library.

`exp`, `log`, `sin`, `cos`, `sqrt`, `floor` and `ceil` are there on bare metal; `tanhf`, `erff`, `rintf` and
`powf` are not. Those below are good to a relative error of 1e-6 and keep NaN and infinities, but not signed zeros. None
relies on the order of additions, which the compiler may change.
"""

from __future__ import annotations

from collections.abc import Mapping

Function = tuple[str, str]

# tanh x = x + x^3 P(x^2), least error over [0, 0.5625]; beyond it no digits are lost in the exponential form.
_TANH = """\
static inline float @tanhf(float a) {
    const float s = a * a;
    const float t = (a < 0.0f) ? -a : a;
    float r;
    if (t < 0.5625f) {
        const float q = (((-0.00618863896f * s) + 0.0210142779f) * s) - 0.0538392466f;
        r = a + (a * s * ((((q * s) + 0.133324714f) * s) - 0.333333145f));
    } else {
        const float u = 1.0f - (2.0f / (expf(2.0f * t) + 1.0f));
        r = (a < 0.0f) ? -u : u;
    }
    return r;
}
"""

# erf x = x + x P(x^2) up to 0.92; from there 1 - exp(-Q(x)), with Q fitted to -log(erfc x) up to 4, where erf x is 1.
_ERF = """\
static inline float @erff(float a) {
    const float s = a * a;
    const float u = (a < 0.0f) ? -a : a;
    const float t = (u > 4.0f) ? 4.0f : u;
    float r;
    if (t < 0.92f) {
        const float p = (((((-0.000602180855f * s) + 0.0049996019f) * s) - 0.0267712839f) * s) + 0.112819549f;
        r = a + (a * ((((p * s) - 0.376125082f) * s) + 0.128379152f));
    } else {
        const float p = (((((-0.000198219726f * t) + 0.00306549093f) * t) - 0.0223152153f) * t) + 0.104113683f;
        const float v = 1.0f - expf(-((((((p * t) + 0.636976079f) * t) + 1.12779724f) * t) + 0.000166447159f));
        r = (a < 0.0f) ? -v : v;
    }
    return r;
}
"""

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

FREESTANDING: Mapping[str, tuple[tuple[Function, ...], str]] = {
    "tanhf": ((("exp", "float32"),), _TANH),
    "erff": ((("exp", "float32"),), _ERF),
    "rintf": ((), _RINT),
    "powf": ((("exp", "float64"), ("log", "float64")), _POW),
}
"""C function -> what it calls (operator, element type), and its definition, with `@` before its own name."""
