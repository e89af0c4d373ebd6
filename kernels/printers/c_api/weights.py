"""The constants as C arrays, in a file of their own so that they are compiled once and lie in flash."""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api.text import C_TYPES, number

_PER_LINE = 8


def weights_texts(symbol: str, program: LoopProgram) -> dict[str, str]:
    """`<symbol>_weights.h` and `.c`; numbers read back exactly."""
    header, body = [], []
    for name, value in program.constants.items():
        dtype = str(value.dtype)
        head = f"const {C_TYPES[dtype]} {symbol}_{name}[{max(1, value.size)}]"
        header.append(f"extern {head}; /* {list(value.shape)} */")
        body.append(f"{head} = {{")
        body += _rows(value, dtype)
        body.append("};")
    guard = f"{symbol.upper()}_WEIGHTS_H"
    return {
        f"{symbol}_weights.h": "\n".join(
            [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>", *header, "#endif", ""]
        ),
        f"{symbol}_weights.c": "\n".join([f'#include "{symbol}_weights.h"', "", *body, ""]),
    }


def _rows(value: np.ndarray, dtype: str) -> list[str]:
    if dtype == "float32" and np.isfinite(value).all():
        # `str` of a NumPy scalar is slow; this is the same shortest form for many numbers at once.
        texts = [f"{t}f" if "." in t or "e" in t else f"{t}.0f" for t in np.ravel(value).astype("U16").tolist()]
    else:
        texts = [number(v, dtype) for v in np.ravel(value).tolist()]
    return ["    " + ", ".join(texts[i : i + _PER_LINE]) + "," for i in range(0, len(texts), _PER_LINE)]
