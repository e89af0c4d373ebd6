"""Small pieces that expansions are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfoldc.kernels.expansions.table import Maker


def integers(maker: Maker, values: Sequence[int]) -> str:
    """A constant of integers, as shapes and axes are."""
    return maker.tensor(np.array(list(values), np.int64))


def scalar(maker: Maker, value: float, like: str) -> str:
    """A number of the same type as a value."""
    return maker.tensor(np.array(value, maker.type(like).dtype))


def reduced(maker: Maker, operator: str, value: str, axes: Sequence[int], keepdims: int = 1) -> str:
    """A reduction over the given axes (none: the value itself)."""
    return maker.node(operator, value, integers(maker, axes), keepdims=keepdims) if axes else value


def reshaped(maker: Maker, value: str, shape: Sequence[int]) -> str:
    """The value in another shape; itself where it has that shape."""
    return value if maker.type(value).shape == tuple(shape) else maker.node("Reshape", value, integers(maker, shape))


def transposed(maker: Maker, value: str, order: Sequence[int]) -> str:
    """The value with its axes in another order."""
    order = list(order)
    return value if order == list(range(len(order))) else maker.node("Transpose", value, perm=order)


def unsqueezed(maker: Maker, value: str, axes: Sequence[int]) -> str:
    """The value with axes of length 1, at these places of the result."""
    return maker.node("Unsqueeze", value, integers(maker, axes)) if axes else value


def squeezed(maker: Maker, value: str, axes: Sequence[int]) -> str:
    """The value without these axes of length 1."""
    return maker.node("Squeeze", value, integers(maker, axes)) if axes else value


def converted(maker: Maker, value: str, dtype: str) -> str:
    """The value in another element type."""
    return value if maker.type(value).dtype == dtype else maker.node("Cast", value, to=dtype)


def stacked(maker: Maker, parts: Sequence[str], axis: int) -> str:
    """The parts one after the other along a new axis, in one join."""
    return maker.node("Concat", *(unsqueezed(maker, part, [axis]) for part in parts), axis=axis)


def joined(maker: Maker, parts: Sequence[str], axis: int) -> str:
    """The parts one after the other. Many are joined in groups: an element chooses among all parts of its join."""
    names = list(parts)
    while len(names) > 1:
        groups = [names[i : i + 4] for i in range(0, len(names), 4)]
        names = [maker.node("Concat", *group, axis=axis) if len(group) > 1 else group[0] for group in groups]
    return names[0]
