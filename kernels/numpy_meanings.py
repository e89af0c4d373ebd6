"""What the operators of the loop representation mean, for NumPy scalars of one type.

Beyond `loops.py`: `floordiv` and `mod` are for integers that are not negative (languages differ on others), `div` of
integers rounds towards zero, `round` goes to the even neighbour on a tie, integers wrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return a / b
    magnitude = abs(int(a)) // abs(int(b))
    return a.dtype.type(magnitude if (a < 0) == (b < 0) else -magnitude)


def _natural(a: Any) -> Any:
    kind = np.asarray(a, None if isinstance(a, np.generic) else np.int32).dtype
    if kind.kind not in "iu" or a < 0:
        raise ValueError(f"floordiv and mod take integers from 0, not {kind} {a}")
    return a


def _erf(a: Any) -> Any:
    return a if np.isnan(a) else math.erf(a)


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "neg": lambda a: -a,
    "abs": abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "erf": _erf,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "not": np.logical_not,
    "isnan": np.isnan,
}
BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _divide,
    "floordiv": lambda a, b: _natural(a) // _natural(b),
    "mod": lambda a, b: _natural(a) % _natural(b),
    "min": np.minimum,
    "max": np.maximum,
    "pow": lambda a, b: a**b,
    "fmod": np.fmod,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": np.logical_and,
    "or": np.logical_or,
}
