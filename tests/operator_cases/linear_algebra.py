"""Cases of exact linear algebra: functions of the domain `unfoldc`, whose meaning is NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from operator_cases.cases import add

_rng = np.random.default_rng(11)


def numbers(*shape: int) -> np.ndarray:
    """Normally distributed numbers, of a generator of their own."""
    return _rng.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    """Symmetric positive definite matrices; above the diagonal stands what nobody may look at."""
    x = numbers(*shape, shape[-1] + 3)
    upper = np.triu(np.full((shape[-1], shape[-1]), np.nan, np.float32), 1)
    return np.asarray(np.tril(x @ np.swapaxes(x, -1, -2)) + upper)


def triangle(upper: int, *shape: int) -> np.ndarray:
    """Triangular matrices far from singular, with NaN in the other triangle."""
    n = shape[-1]
    a = numbers(*shape, n) / n + np.eye(n, dtype=np.float32) * 2
    mask = np.tri(n, n, -1, bool) if upper else ~np.tri(n, n, 0, bool)
    return np.where(mask, np.float32(np.nan), a)


def mixed(*shape: int) -> np.ndarray:
    """Matrices whose pivots lie elsewhere than on the diagonal, which is 0."""
    n = shape[-1]
    a = numbers(*shape, n) / n + np.roll(np.eye(n, dtype=np.float32), 1, axis=0) * 2
    return np.asarray(a * (1 - np.eye(n, dtype=np.float32)) if n > 1 else a)


def _solve_triangular(a: Any, b: Any, upper: int = 0, transposed: int = 0) -> Any:
    own = np.triu(a) if upper else np.tril(a)
    return np.linalg.solve(np.swapaxes(own, -1, -2) if transposed else own, b)


def _cholesky(a: Any) -> Any:
    lower = np.tril(a)
    return np.linalg.cholesky(lower + np.swapaxes(np.tril(a, -1), -1, -2))


_EXACT: Mapping[str, Callable[..., Any]] = {
    "unfoldc.Cholesky": _cholesky,
    "unfoldc.SolveTriangular": _solve_triangular,
    "unfoldc.Solve": np.linalg.solve,
    "unfoldc.Inverse": np.linalg.inv,
    "com.microsoft.Inverse": np.linalg.inv,
}


def exact(operator: str, inputs: Mapping[int, np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    """What the operator means, computed in float64."""
    given = [inputs[i] for i in sorted(inputs)]
    wide = [x.astype(np.float64) for x in given]
    return np.asarray(_EXACT[operator](*wide, **attributes)).astype(given[0].dtype)


for _shape in ((5,), (1,), (2,), (3, 4), (2, 1, 7)):
    add("unfoldc.Cholesky", positive(*_shape))
    for _upper in (0, 1):
        for _transposed in (0, 1):
            _given = triangle(_upper, *_shape), numbers(*_shape, len(_shape) * 3 - 2)
            add("unfoldc.SolveTriangular", *_given, upper=_upper, transposed=_transposed)
    add("unfoldc.Solve", mixed(*_shape), numbers(*_shape, len(_shape) * 3 - 2))
    add("unfoldc.Inverse", mixed(*_shape))
    add("com.microsoft.Inverse", mixed(*_shape))
add("unfoldc.SolveTriangular", triangle(0, 4), numbers(3, 4, 2))
add("unfoldc.SolveTriangular", triangle(1, 2, 1, 4), numbers(3, 4, 1), upper=1)
add("unfoldc.Solve", mixed(6), numbers(3, 6, 2))
add("unfoldc.Solve", mixed(2, 3), numbers(3, 1))
