"""Whether a constant matrix is symmetric: one half of its entries then says it all."""

from __future__ import annotations

import numpy as np


def symmetric(matrix: np.ndarray, tolerance: float = 0.0) -> bool:
    """Whether the last two axes of an array of any kind may be exchanged.

    No two mirrored entries differ by more than `tolerance` times the largest entry in size; 0 asks for equal ones. NaN
    equals nothing, so that an array with a NaN is not symmetric; mirrored infinities of one sign are equal.
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        return False
    mirrored = np.swapaxes(matrix, -1, -2)
    if tolerance <= 0 or matrix.dtype.kind not in "fc":
        return bool((matrix == mirrored).all())
    if not matrix.size or not np.isfinite(matrix).all():
        return bool((matrix == mirrored).all())
    return bool(np.abs(matrix - mirrored).max() <= tolerance * np.abs(matrix).max())


def symmetrised(matrix: np.ndarray) -> np.ndarray | None:
    """An array of floats with its mirrored entries equal; None where they differ by more than a rounding.

    Gram matrices that were computed in this type may differ across the diagonal by one.
    """
    if symmetric(matrix):
        return matrix
    if not symmetric(matrix, float(np.finfo(matrix.dtype).eps)):
        return None
    return np.asarray(matrix / 2 + matrix.swapaxes(-1, -2) / 2)
