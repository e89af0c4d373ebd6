"""The square root of vectors of float32 from the processor's estimate of 1 / sqrt(x), for AVX-512.

The processor's own square root of sixteen numbers keeps its one divider busy for 14 to 16 cycles. An estimate good to
14 bits and one step of Newton's method share its other units with everything else and take 5 of their cycles, but 4
more until the result is there: loops over many vectors take this one. (For quotients the same gains nothing: with what
0, infinities and large divisors need it takes 6 cycles rather than 11, and the divider works beside the other units.)

The largest error is 1 unit in the last place. Zeros, infinities, NaN and numbers below 0 give what they give elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

# s = x y with y near 1 / sqrt(x); then s + s (1 - s y) / 2. Where y is 0 or infinite, x is its own root.
_TEXT = Template("""\
#if defined(__clang__) && defined(__AVX512DQ__) && ((${lanes} % 16) == 0)
static inline ${vector} ${own}(${vector} a) {
    typedef float part __attribute__((vector_size(64), aligned(4), may_alias));
    ${vector} r;
    for (int l = 0; l < (${lanes} / 16); l++) {
        const part x = ((const part *)&a)[l];
        const part y = __builtin_ia32_rsqrt14ps512_mask(x, x, 0xffff);
        const part s = x * y;
        const part e = 0.5f - (s * (0.5f * y));
        const uint16_t end = __builtin_ia32_fpclassps512_mask(y, 0x1e, 0xffff);
        ((part *)&r)[l] = __builtin_ia32_selectps_512(end, x, s + (s * e));
    }
    return r;
}
#else
""")


def root_by_estimate(own: str, exact: Sequence[str], vector: str, lanes: str) -> list[str]:
    """The function `own` of a vector, of which `exact` is a definition for other processors.

    `lanes` is C for the number of elements.
    """
    return [*_TEXT.substitute(own=own, vector=vector, lanes=lanes).splitlines(), *exact, "#endif"]
