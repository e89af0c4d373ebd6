"""Many floats as C99 hexadecimal literals: exact like the shortest decimals, and printed many times as fast."""

from __future__ import annotations

from typing import Any

import numpy as np

_PER_ROW = 6
_CHUNK = 1 << 12  # rows at a time, which stay in the cache while their characters are filled in
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def hexadecimal(values: np.ndarray) -> str:
    """Finite float32 or float64 numbers as rows of literals such as `-0x1.8c0000p+004f`, each with a comma."""
    flat = np.ravel(values)
    chunks = []
    for start in range(0, flat.size, _PER_ROW * _CHUNK):
        part = flat[start : start + _PER_ROW * _CHUNK]
        whole = part.size - part.size % _PER_ROW
        chunks += [_rows(part[:whole], _PER_ROW), _rows(part[whole:], part.size - whole)]
    return "".join(chunks)


def _rows(flat: np.ndarray, per_row: int) -> str:
    """Lines of so many literals each; the characters of all are filled in place by place."""
    if not flat.size:
        return ""
    single = flat.dtype == np.float32
    stored, digits, places = (23, 6, 3) if single else (52, 13, 4)  # a float32's 23 bits are shifted to fill 6 digits
    bits: Any = flat.view(np.uint32 if single else np.uint64)  # shifts by plain numbers keep this type
    mantissa = (bits & ((1 << stored) - 1)) << int(single)
    biased = (bits >> stored).astype(np.int64) & (0xFF if single else 0x7FF)
    exponent = np.maximum(biased, 1) - (127 if single else 1023)
    text = np.full((flat.size, 9 + digits + places + single), ord(" "), np.uint8)
    text[:, 1] = np.where(bits >> (31 if single else 63), ord("-"), ord(" "))
    text[:, 2:4] = np.frombuffer(b"0x", np.uint8)
    text[:, 4] = np.where(biased == 0, ord("0"), ord("1"))
    text[:, 5] = ord(".")
    for i in range(digits):
        text[:, 6 + i] = _DIGITS[(mantissa >> (4 * (digits - 1 - i))) & 15]
    at = 6 + digits
    text[:, at] = ord("p")
    text[:, at + 1] = np.where(exponent < 0, ord("-"), ord("+"))
    for i in range(places):
        text[:, at + 2 + i] = _DIGITS[np.abs(exponent) // 10 ** (places - 1 - i) % 10]
    text[:, at + 2 + places :] = np.frombuffer(b"f," if single else b",", np.uint8)
    lines = text.reshape(-1, per_row * text.shape[1])
    ends = np.full((len(lines), 1), ord("\n"), np.uint8)
    return np.hstack([lines, ends]).tobytes().decode("ascii")
