"""The constants as C arrays, in a file of their own so that they are compiled once and lie in flash."""

from __future__ import annotations

from string import Template

import numpy as np

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api.text import C_TYPES, number, with_point

_ALIGNED = Template("""\
#if defined(__GNUC__)
#define ${name} __attribute__((aligned(${alignment})))
#else
#define ${name}
#endif

""")


def weights_texts(symbol: str, program: LoopProgram, alignment: int = 1) -> dict[str, str]:
    """`<symbol>_weights.h` and `.c`: the array `<symbol>_<name>` for each constant; numbers read back exactly.

    With `alignment` in bytes, arrays start at a multiple of it where the compiler has a way to say so.
    """
    header, body = [], []
    mark = f"{symbol}_ALIGNED " if alignment > 1 else ""
    if mark:
        header += _ALIGNED.substitute(name=mark.strip(), alignment=alignment).splitlines()
    for name, value in program.constants.items():
        dtype = str(value.dtype)
        head = f"{mark}const {C_TYPES[dtype]} {symbol}_{name}[{max(1, value.size)}]"
        shape = " x ".join(str(n) for n in value.shape) or "scalar"
        header.append(f"extern {head}; /* {shape} */")
        body += ["", f"{head} = {{", *(_rows(value, dtype) or ["    0"]), "};"]
    guard = f"{symbol}_WEIGHTS_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "", *header, "", "#endif", ""]
    top = f"/* Weights of {symbol}, row by row. Made by unfoldc. */"
    return {
        f"{symbol}_weights.h": "\n".join([top, *lines]),
        f"{symbol}_weights.c": "\n".join([top, f'#include "{symbol}_weights.h"', *body, ""]),
    }


def _rows(value: np.ndarray, dtype: str) -> list[str]:
    flat = np.ravel(value)
    if dtype == "float32" and np.isfinite(flat).all():
        # `str` of one NumPy scalar at a time is slow; this is the same shortest form for many numbers at once.
        texts = [f"{with_point(t)}f" for t in flat.astype("U16").tolist()]
    else:
        texts = [number(v, dtype) for v in flat.tolist()]
    n = 4 if value.dtype.itemsize == 8 else 6
    return ["    " + ", ".join(texts[i : i + n]) + "," for i in range(0, len(texts), n)]
