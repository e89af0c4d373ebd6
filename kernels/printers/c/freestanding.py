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
    if (t < 0.5625f) {
        const float p = (((-0.00618863896f * s + 0.0210142779f) * s - 0.0538392466f) * s + 0.133324714f) * s;
        return a + a * s * (p - 0.333333145f);
    }
    const float r = 1.0f - 2.0f / (expf(2.0f * t) + 1.0f);
    return (a < 0.0f) ? -r : r;
}
"""

# erf x = x + x P(x^2) up to 0.92; from there 1 - exp(-Q(x)), with Q fitted to -log(erfc x) up to 4, where erf x is 1.
_ERF = """\
static inline float @erff(float a) {
    const float s = a * a;
    const float u = (a < 0.0f) ? -a : a;
    const float t = (u > 4.0f) ? 4.0f : u;
    if (t < 0.92f) {
        const float p = ((-0.000602180855f * s + 0.0049996019f) * s - 0.0267712839f) * s + 0.112819549f;
        return a + a * ((p * s - 0.376125082f) * s + 0.128379152f);
    }
    const float p = ((-0.000198219726f * t + 0.00306549093f) * t - 0.0223152153f) * t + 0.104113683f;
    const float r = 1.0f - expf(-(((p * t + 0.636976079f) * t + 1.12779724f) * t + 0.000166447159f));
    return (a < 0.0f) ? -r : r;
}
"""

# From 2^23 on a float has no fraction. NaN fails both tests.
_RINT = """\
static inline float @rintf(float a) {
    if ((a > -8388608.0f) && (a < 8388608.0f)) {
        const int32_t cut = (int32_t)a;
        const float rest = (a < 0.0f) ? (float)cut - a : a - (float)cut;
        const int32_t away = (a < 0.0f) ? -1 : 1;
        return (float)(((rest > 0.5f) || ((rest == 0.5f) && (cut % 2 != 0))) ? cut + away : cut);
    }
    return a;
}
"""

# The product with the logarithm needs more digits than a float has. From 2^24 on every float is an even number.
_POW = """\
static inline float @powf(float a, float b) {
    const float t = (a < 0.0f) ? -a : a;
    const int small = (b > -16777216.0f) && (b < 16777216.0f);
    const int32_t cut = small ? (int32_t)b : 0;
    const int whole = !small || ((float)cut == b);
    if (b == 2.0f) {
        return a * a;
    }
    if ((b == 0.0f) || (a == 1.0f)) {
        return 1.0f;
    }
    if ((a != a) || (b != b)) {
        return a + b;
    }
    if ((a < 0.0f) && !whole && (t <= 3.40282347e38f)) {
        return __builtin_nanf("");
    }
    const float r = (t == 1.0f) ? 1.0f : (float)exp((double)b * log((double)t));
    return ((a < 0.0f) && whole && (cut % 2 != 0)) ? -r : r;
}
"""

FREESTANDING: Mapping[str, tuple[tuple[Function, ...], str]] = {
    "tanhf": ((("exp", "float32"),), _TANH),
    "erff": ((("exp", "float32"),), _ERF),
    "rintf": ((), _RINT),
    "powf": ((("exp", "float64"), ("log", "float64")), _POW),
}
"""C function -> what it calls (operator, element type), and its definition, with `@` before its own name."""
