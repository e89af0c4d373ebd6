"""The square root of vectors of float32 from the processor's estimate of 1 / sqrt(x), for AVX-512.

As in C (`printers/c/vector_root.py`, which says why): an estimate good to 14 bits, and one step of Newton's method. The
largest error is 1 unit in the last place. Zeros, infinities, NaN and numbers below 0 give what they give elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

LANES = 16
"""Elements of a register."""
_LARGEST = "3.4028234663852886e+38"


def root_by_estimate(x: str, lanes: int, keep: Callable[[str, int, str], str]) -> str:
    """The root of a vector whose text may be repeated; `keep(name, elements, text)` computes a value in front."""
    parts = []
    for first in range(0, lanes, LANES):
        own = x if lanes == LANES else f"T.Shuffle([{x}], {list(range(first, first + LANES))})"
        parts.append(_root(keep("x", LANES, own), keep))
    return parts[0] if lanes == LANES else f"T.Shuffle({_listed(parts)}, {list(range(lanes))})"


def _root(x: str, keep: Callable[[str, int, str], str]) -> str:
    """s = x y with y near 1 / sqrt(x); then s + s (1 - s y) / 2. Where y is 0 or infinite, x is its own root."""

    def same(value: str) -> str:
        return f"T.Broadcast(T.float32({value}), {LANES})"

    estimate = "llvm.x86.avx512.rsqrt14.ps.512"
    y = keep("y", LANES, f'T.call_llvm_pure_intrin("float32x{LANES}", "{estimate}", {x}, {x}, T.uint16(65535))')
    s = keep("s", LANES, f"{x} * {y}")
    e = keep("e", LANES, f"{same('0.5')} - {s} * ({same('0.5')} * {y})")
    end = f"T.Or({y} == {same('0.0')}, T.abs({y}) > {same(_LARGEST)})"
    return keep("r", LANES, f"T.Select({end}, {x}, {s} + {s} * {e})")


def _listed(texts: list[str]) -> str:
    return f"[{', '.join(texts)}]"
