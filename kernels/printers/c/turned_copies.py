"""Copies of matrices with rows and columns exchanged, in square blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from unfoldc.kernels.loops import Const, Expr, For, Load, LoopProgram, Stmt, Store, Var
from unfoldc.kernels.printers.c_api.square_blocks import LARGEST, square_blocks_text
from unfoldc.kernels.printers.c_api.text import C_TYPES


@dataclass(frozen=True)
class TurnedCopy:
    """`to[r, c] = source[c, r]` for all r < rows and c < columns; rows lie `apart` and `step` elements apart."""

    to: str
    apart: int
    source: str
    step: int
    rows: int
    columns: int
    dtype: str


def turned_copy(program: LoopProgram, body: tuple[Stmt, ...]) -> TurnedCopy | None:
    """What two loops do, if it is that with whole blocks."""
    match body:
        case (For(r, int(rows), (For(c, int(columns), (Store(to, at, Load(source, places, dtype)),)),)),):
            block = LARGEST // np.dtype(dtype).itemsize
            strides = _strides(program, to, at, r, c), _strides(program, source, places, c, r)
            if strides[0] and strides[1] and not rows % block and not columns % block and dtype.startswith("float"):
                return TurnedCopy(to, strides[0], source, strides[1], rows, columns, dtype)
    return None


def turned_copy_text(symbol: str, dtype: str) -> list[str]:
    """The function that makes such a copy."""
    own, kind = f"{symbol}_{dtype}", C_TYPES[dtype]
    return [
        *square_blocks_text(own, dtype, LARGEST // np.dtype(dtype).itemsize).splitlines(),
        f"static inline void {own}_turned(",
        f"        {kind} *restrict to, long apart, const {kind} *restrict from, long step, long rows, long columns) {{",
        f"#if defined({own}_BLOCK)",
        f"    for (long r = 0; r < rows; r += {own}_BLOCK) {{",
        f"        for (long c = 0; c < columns; c += {own}_BLOCK) {{",
        f"            const {own}_element *lines[{own}_BLOCK];",
        f"            for (long i = 0; i < {own}_BLOCK; i++) {{",
        "                lines[i] = &from[((c + i) * step) + r];",
        "            }",
        f"            {own}_turn(&to[(r * apart) + c], apart, lines);",
        "        }",
        "    }",
        "#else",
        "    for (long r = 0; r < rows; r++) {",
        "        for (long c = 0; c < columns; c++) {",
        "            to[(r * apart) + c] = from[(c * step) + r];",
        "        }",
        "    }",
        "#endif",
        "}",
    ]


def _strides(program: LoopProgram, buffer: str, indices: tuple[Expr, ...], row: str, column: str) -> int:
    """Elements from one row to the next where these are all indices that move, and columns lie side by side; else 0."""
    shape = program.buffers[buffer].shape
    moving = [(a, i) for a, i in enumerate(indices) if not isinstance(i, Const)]
    if [i for _, i in moving] != [Var(row), Var(column)] or any(i.value for i in indices if isinstance(i, Const)):
        return 0
    return prod(shape[moving[0][0] + 1 :]) if prod(shape[moving[1][0] + 1 :]) == 1 else 0
