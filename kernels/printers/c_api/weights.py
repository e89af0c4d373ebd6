"""The constants as C arrays, in a file of their own so that they are compiled once and lie in flash.

On the host, where a C compiler would read large weights for many seconds, they come from a binary file instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from string import Template

import numpy as np

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api.hexadecimal import hexadecimal
from unfoldc.kernels.printers.c_api.text import C_TYPES, number, with_point

LARGE = 1 << 21  # bytes: as text they take a second and a half to print and to compile

_ALIGNED = Template("""\
#if defined(__GNUC__)
#define ${name} __attribute__((aligned(${alignment})))
#else
#define ${name}
#endif

""")

_BINARY = Template("""\
/* Weights of ${symbol}: ${size} bytes as they lie in memory, in the file ${symbol}_weights.bin, which the
 * compiler finds beside this one or by its option -I. Made by unfoldc; where a solver is saved, the numbers
 * stand here as text.
 * SHA-256 ${digest} */
#if defined(__APPLE__)
#define BEFORE ".const_data\\n"
#define LABEL "_"
#else
#define BEFORE ".section .rodata\\n"
#define LABEL ""
#endif

${arrays}""")

_ARRAY = Template("""\
__asm__(BEFORE ".balign ${alignment}\\n.globl " LABEL "${name}\\n" LABEL "${name}:\\n"
        ".incbin \\"${file}\\", ${offset}, ${size}\\n.text\\n");
""")


def weights_texts(symbol: str, program: LoopProgram, alignment: int = 1) -> dict[str, str]:
    """`<symbol>_weights.h` and `.c`: the array `<symbol>_<name>` for each constant; numbers read back exactly.

    With `alignment` in bytes, as on the host, arrays start at a multiple of it where the compiler has a way to say so,
    and a file of `LARGE` or more bytes takes the numbers from `<symbol>_weights.bin`, which is `weights_binary`.
    """
    header: list[str] = []
    if alignment > 1:
        header += _ALIGNED.substitute(name=_mark(symbol), alignment=alignment).splitlines()
    for name, value in program.constants.items():
        shape = " x ".join(str(n) for n in value.shape) or "scalar"
        header.append(f"extern {_head(symbol, name, value, alignment)}; /* {shape} */")
    guard = f"{symbol}_WEIGHTS_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "", *header, "", "#endif", ""]
    large = alignment > 1 and sum(value.nbytes for value in program.constants.values()) >= LARGE
    body = _from_binary(symbol, program.constants, alignment) if large else None
    return {
        f"{symbol}_weights.h": "\n".join([_title(symbol), *lines]),
        f"{symbol}_weights.c": body or weights_body(symbol, program.constants, alignment),
    }


def weights_body(symbol: str, constants: Mapping[str, np.ndarray], alignment: int = 1) -> str:
    """`<symbol>_weights.c` with all numbers as text, those of large arrays in hexadecimal."""
    body = []
    for name, value in constants.items():
        rows = _rows(value, str(value.dtype)) or ["    0"]
        body += ["", f"{_head(symbol, name, value, alignment)} = {{", *rows, "};"]
    return "\n".join([_title(symbol), f'#include "{symbol}_weights.h"', *body, ""])


def weights_binary(constants: Mapping[str, np.ndarray], alignment: int) -> Iterator[memoryview | bytes]:
    """`<symbol>_weights.bin` in pieces of bytes: the constants by name, each from a multiple of `alignment` on."""
    for name in sorted(constants):
        value = np.ascontiguousarray(constants[name])
        yield value.reshape(-1).view(np.uint8).data
        yield bytes(-value.nbytes % alignment)


def needs_binary(text: str) -> bool:
    """Whether this `<symbol>_weights.c` takes the numbers from a binary file."""
    return ".incbin" in text[-1000:]


def _from_binary(symbol: str, constants: Mapping[str, np.ndarray], alignment: int) -> str:
    digest = hashlib.sha256()
    for part in weights_binary(constants, alignment):
        digest.update(part)
    arrays, offset = [], 0
    for name in sorted(constants):
        size = constants[name].nbytes
        facts = {"name": f"{symbol}_{name}", "file": f"{symbol}_weights.bin", "alignment": str(alignment)}
        arrays.append(_ARRAY.substitute(facts, offset=str(offset), size=str(size)))
        offset += size + -size % alignment
    # Compilers that keep what they compiled look at the text alone, so it must differ where the numbers do.
    return _BINARY.substitute(symbol=symbol, size=str(offset), digest=digest.hexdigest(), arrays="".join(arrays))


def _title(symbol: str) -> str:
    return f"/* Weights of {symbol}, row by row. Made by unfoldc. */"


def _mark(symbol: str) -> str:
    return f"{symbol}_ALIGNED"


def _head(symbol: str, name: str, value: np.ndarray, alignment: int) -> str:
    mark = f"{_mark(symbol)} " if alignment > 1 else ""
    return f"{mark}const {C_TYPES[str(value.dtype)]} {symbol}_{name}[{max(1, value.size)}]"


def _rows(value: np.ndarray, dtype: str) -> list[str]:
    flat = np.ravel(value)
    if value.nbytes >= LARGE and dtype.startswith("float") and np.isfinite(flat).all():
        return hexadecimal(flat).splitlines()
    if dtype == "float32" and np.isfinite(flat).all():
        # `str` of one NumPy scalar at a time is slow; this is the same shortest form for many numbers at once.
        texts = [f"{with_point(t)}f" for t in flat.astype("U16").tolist()]
    else:
        texts = [number(v, dtype) for v in flat.tolist()]
    n = 4 if value.dtype.itemsize == 8 else 6
    return ["    " + ", ".join(texts[i : i + n]) + "," for i in range(0, len(texts), n)]
