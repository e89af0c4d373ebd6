"""DFT, STFT and the windows that go with them. A complex number is a pair of real ones along the last axis.

A transform of length N is a product with a matrix of cosines and sines, computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfoldc.kernels.element_types import ELEMENT_TYPES
from unfoldc.kernels.expansions.splits import given, window
from unfoldc.kernels.expansions.table import Call, Maker, axis_of, constant, expands

_LONGEST = 4096


@expands("DFT")
def dft(maker: Maker, call: Call) -> tuple[str, ...]:
    """y[k] = sum over n of x[n] exp(-2 pi i k n / N); the inverse has + and 1 / N.

    onesided=1 gives the first N // 2 + 1 of a real signal, and with inverse=1 the real signal of those.
    """
    x = call.inputs[0]
    shape = maker.type(x).shape
    axis = _axis(maker, call, len(shape))
    inverse, onesided = (bool(call.attributes.get(name, 0)) for name in ("inverse", "onesided"))
    if len(shape) < 2 or shape[-1] not in (1, 2) or (onesided and inverse != (shape[-1] == 2)):
        raise ValueError(f"a value of shape {list(shape)}, inverse={inverse:d}, onesided={onesided:d}")
    length = constant(maker, call, 1)
    n = int(length.item()) if length is not None else 2 * (shape[axis] - 1) if inverse and onesided else shape[axis]
    if not 1 <= n <= _LONGEST:
        raise ValueError(f"a transform of length {n}, the longest is {_LONGEST}")
    used = min(shape[axis], n // 2 + 1 if inverse and onesided else n)
    x = window(maker, x, {axis: (0, used)})
    matrix = _matrix(n, used, shape[-1], inverse, onesided)
    return (_along(maker, x, axis, _tables(maker, matrix, maker.type(x).dtype), matrix.shape[-1]),)


def _axis(maker: Maker, call: Call, rank: int) -> int:
    """The axis to transform: an attribute at first, an input from operator set 20 on."""
    if call.opset < 20:
        axis = axis_of(call, rank, 1)
    else:
        wanted = constant(maker, call, 2)
        axis = -2 if wanted is None else int(wanted.item())
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} of a value with {rank} axes")
        axis %= rank
    if axis == rank - 1:
        raise ValueError("the last axis holds real and imaginary parts")
    return axis


def _matrix(n: int, used: int, parts: int, inverse: bool, onesided: bool) -> np.ndarray:
    """(used, parts, results, parts of a result): what each part of each input contributes to each result."""
    results = n if inverse or not onesided else n // 2 + 1
    angle = 2 * np.pi * (np.outer(np.arange(used), np.arange(results)) % n) / n
    real, imaginary = np.cos(angle), np.sin(angle) * (1 if inverse else -1)
    if inverse:
        real, imaginary = real / n, imaginary / n
    if inverse and onesided:
        # The other half are the conjugates, so that what is in both halves counts twice; of what is its own
        # conjugate the imaginary part is not used.
        own = [k for k in range(used) if 2 * k % n == 0]
        factor = np.full((used, 1), 2.0)
        factor[own] = 1
        imaginary[own] = 0
        return np.stack([real * factor, -imaginary * factor], axis=1)[..., None]
    matrix = np.stack([np.stack([real, imaginary], -1), np.stack([-imaginary, real], -1)], axis=1)
    return matrix[:, :parts]


def _tables(maker: Maker, matrix: np.ndarray, dtype: str) -> list[str]:
    """A matrix (n, results * parts of a result) for each part of x."""
    return [maker.tensor(matrix[:, p].reshape(len(matrix), -1).astype(dtype)) for p in range(matrix.shape[1])]


def _along(maker: Maker, x: str, axis: int, tables: Sequence[str], parts: int) -> str:
    """The sum of the products of the parts of x along `axis` with their matrices (n, results * parts of a result).

    The parts are multiplied one by one, not as one row of pairs, whose elements would lie at places to be divided for.
    """
    t = maker.type(x)
    rank, results = len(t.shape), maker.type(tables[0]).shape[1] // parts
    last = rank - 2
    order = [*(a for a in range(rank - 1) if a != axis), axis, rank - 1]
    kept = [t.shape[a] for a in order[:last]]
    x = _turned(maker, x, order) if axis != last else x
    terms = []
    for part, table in enumerate(tables):
        one = _reshaped(maker, window(maker, x, {rank - 1: (part, 1)}), [*kept, t.shape[axis]])
        terms.append(maker.node("MatMul", one, table))
    y = maker.node("Add", *terms) if len(terms) > 1 else terms[0]
    y = _reshaped(maker, y, [*kept, results, parts])
    return _turned(maker, y, [order.index(a) for a in range(rank)]) if axis != last else y


def _turned(maker: Maker, x: str, order: Sequence[int]) -> str:
    return maker.node("Transpose", x, perm=list(order))


def _reshaped(maker: Maker, x: str, shape: Sequence[int]) -> str:
    return maker.node("Reshape", x, maker.tensor(np.array(shape, np.int64)))


@expands("STFT")
def stft(maker: Maker, call: Call) -> tuple[str, ...]:
    """The transforms of windowed frames, `frame_step` apart: (batch, n, parts) -> (batch, frames, bins, 2)."""
    x, step = call.inputs[0], int(given(maker, call, 1).item())
    t = maker.type(x)
    if len(t.shape) == 2:
        x = _reshaped(maker, x, [*t.shape, 1])
    length = constant(maker, call, 3)
    weights = call.input(2)
    if length is None and not weights:
        raise ValueError("neither a window nor the length of a frame is given")
    size = int(length.item()) if length is not None else maker.type(weights).shape[0]
    parts = maker.type(x).shape[-1]
    onesided = bool(call.attributes.get("onesided", 1)) and parts == 1
    if len(t.shape) not in (2, 3) or parts not in (1, 2) or step < 1 or not 1 <= size <= _LONGEST:
        raise ValueError(f"frames of {size}, {step} apart, of a value of shape {list(t.shape)}")
    x = maker.node("Transpose", x, perm=[0, 2, 1])
    x = maker.node("Patches", x, kernel=[size], strides=[step], dilations=[1])
    x = maker.node("Transpose", x, perm=[0, 2, 3, 1])
    tables = _tables(maker, _matrix(size, size, parts, False, onesided), t.dtype)
    if weights:
        if maker.type(weights).shape != (size,):
            raise ValueError(f"a window of shape {maker.type(weights).shape} for frames of {size}")
        # The window is part of the matrix: frames, which overlap, are never laid out one by one.
        column = _reshaped(maker, weights, [size, 1])
        tables = [maker.node("Mul", table, column) for table in tables]
    return (_along(maker, x, 2, tables, 2),)


_COSINES = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@expands(*_COSINES)
def cosine_window(maker: Maker, call: Call) -> tuple[str, ...]:
    """a0 - a1 cos(2 pi i / N) + a2 cos(4 pi i / N), with N - 1 in place of N unless periodic."""
    size = int(given(maker, call, 0).item())
    to = int(call.attributes.get("output_datatype", 1))
    dtype = {int(number): name for number, name in ELEMENT_TYPES.items()}.get(to, "")
    if not 1 <= size <= 2**20 or not dtype.startswith("float"):
        raise ValueError(f"a window of {size} numbers of type {to}")
    angle = 2 * np.pi * np.arange(size) / max(size if call.attributes.get("periodic", 1) else size - 1, 1)
    a, b, c = _COSINES[call.operator]
    return (maker.tensor((a - b * np.cos(angle) + c * np.cos(2 * angle)).astype(dtype)),)
