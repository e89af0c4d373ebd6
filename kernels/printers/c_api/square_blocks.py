"""C that turns square blocks of numbers in registers, so that rows become columns.

Number by number, every store (or load) goes to another cache line. Here BLOCK rows are loaded as vectors, and
interleaving the first half of them with the second log2(BLOCK) times makes columns of them.
"""

from __future__ import annotations

from string import Template

import numpy as np

from unfoldc.kernels.printers.c_api.text import C_TYPES

_TEXT = Template("""\
typedef ${kind} ${own}_element __attribute__((may_alias));
#if !defined(__clang__) && (!defined(__GNUC__) || (__GNUC__ < 12))
/* There are no shuffles of vectors. */
${blocks}#endif
#if defined(${own}_BLOCK)
typedef ${kind} ${own}_row __attribute__((vector_size(${own}_BLOCK * ${bytes})));
typedef ${own}_row ${own}_row_at __attribute__((aligned(${bytes}), may_alias));

/* Column i of the block with the given rows becomes row i at `to`, where rows lie `apart` elements apart. */
static inline void ${own}_turn(${own}_element *to, long apart, const ${own}_element *const *from) {
    ${own}_row a[${own}_BLOCK];
    for (int i = 0; i < ${own}_BLOCK; i++) {
        a[i] = *(const ${own}_row_at *)from[i];
    }
    for (int times = 1; times < ${own}_BLOCK; times *= 2) {
        ${own}_row b[${own}_BLOCK];
        for (int i = 0; i < (${own}_BLOCK / 2); i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + (${own}_BLOCK / 2)], ${own}_LOWER);
            b[(2 * i) + 1] = __builtin_shufflevector(a[i], a[i + (${own}_BLOCK / 2)], ${own}_UPPER);
        }
        for (int i = 0; i < ${own}_BLOCK; i++) {
            a[i] = b[i];
        }
    }
    for (int i = 0; i < ${own}_BLOCK; i++) {
        *(${own}_row_at *)&to[i * apart] = a[i];
    }
}
#endif
""")
# Bits, and where there are registers of so many.
_REGISTERS = ((512, "#elif defined(__AVX512F__)"), (256, "#elif defined(__AVX__)"), (128, "#else"))
LARGEST = 64  # bytes of a block's row, at most


def square_blocks_text(own: str, dtype: str, multiple: int) -> str:
    """Defines `<own>_element`, and `<own>_BLOCK` and `<own>_turn` where the compiler has shuffles of vectors.

    BLOCK divides `multiple`, a power of 2.
    """
    size = np.dtype(dtype).itemsize
    blocks = ""
    for bits, condition in _REGISTERS:
        n = bits // (8 * size)
        if multiple % n == 0:
            lower, upper = (", ".join(f"{i}, {i + n}" for i in range(h, h + n // 2)) for h in (0, n // 2))
            blocks += (
                f"{condition}\n#define {own}_BLOCK {n}\n#define {own}_LOWER {lower}\n#define {own}_UPPER {upper}\n"
            )
    return _TEXT.substitute(own=own, kind=C_TYPES[dtype], bytes=str(size), blocks=blocks)
