"""How the host's driver lays problems side by side, one in each element of vectors, and apart again."""

from __future__ import annotations

from string import Template

from unfoldc.kernels.printers.c_api.square_blocks import square_blocks_text
from unfoldc.kernels.printers.c_api.text import C_TYPES

_TEXT = Template("""\
/* Problems side by side: element e of problem l lies at [e][l]. Where there are fewer, the last stands for
 * the rest. */
${turn}
__attribute__((noinline)) static void pack(
        ${vector} *restrict vectors, const ${kind} *restrict from, long size, long problems) {
    lanes_element *const to = (lanes_element *)vectors;
#if defined(lanes_BLOCK)
    const long whole = size - (size % lanes_BLOCK);
    for (long e = 0; e < whole; e += lanes_BLOCK) {
        for (long l = 0; l < ${symbol}_LANES; l += lanes_BLOCK) {
            const lanes_element *own[lanes_BLOCK];
            for (long i = 0; i < lanes_BLOCK; i++) {
                own[i] = &from[((((l + i) < problems) ? (l + i) : (problems - 1)) * size) + e];
            }
            lanes_turn(&to[(e * ${symbol}_LANES) + l], ${symbol}_LANES, own);
        }
    }
#else
    const long whole = 0;
#endif
    for (long l = 0; l < ${symbol}_LANES; l++) {
        const ${kind} *const own = &from[((l < problems) ? l : (problems - 1)) * size];
        for (long e = whole; e < size; e++) {
            to[(e * ${symbol}_LANES) + l] = own[e];
        }
    }
}

__attribute__((noinline)) static void unpack(
        ${kind} *restrict to, const ${vector} *restrict vectors, long size, long problems) {
    const lanes_element *const from = (const lanes_element *)vectors;
#if defined(lanes_BLOCK)
    const long whole = (problems < ${symbol}_LANES) ? 0 : (size - (size % lanes_BLOCK));
    for (long e = 0; e < whole; e += lanes_BLOCK) {
        for (long l = 0; l < ${symbol}_LANES; l += lanes_BLOCK) {
            const lanes_element *own[lanes_BLOCK];
            for (long i = 0; i < lanes_BLOCK; i++) {
                own[i] = &from[((e + i) * ${symbol}_LANES) + l];
            }
            lanes_turn(&to[(l * size) + e], size, own);
        }
    }
#else
    const long whole = 0;
#endif
    for (long l = 0; (l < problems) && (l < ${symbol}_LANES); l++) {
        for (long e = whole; e < size; e++) {
            to[(l * size) + e] = from[(e * ${symbol}_LANES) + l];
        }
    }
}

""")


def packing_text(symbol: str, lanes: int, vector: str, dtype: str) -> str:
    """`pack` and `unpack` for vectors of the C type `vector`, with `lanes` elements of `dtype`."""
    turn = square_blocks_text("lanes", dtype, lanes)
    return _TEXT.substitute(symbol=symbol, vector=vector, kind=C_TYPES[dtype], turn=turn)
