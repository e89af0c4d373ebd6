"""Pad, and padding as other expansions need it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfoldc.kernels.expansions.splits import window
from unfoldc.kernels.expansions.table import Call, Maker, constant, expands

_MODES = ("constant", "edge", "reflect", "wrap")


@expands("Pad")
def pad(maker: Maker, call: Call) -> tuple[str, ...]:
    """Elements added around a value: one number, its edge, its mirror image, or itself again; negative pads cut."""
    x, mode = call.inputs[0], str(call.attributes.get("mode", "constant"))
    shape = maker.type(x).shape
    pads, axes = constant(maker, call, 1), constant(maker, call, 3)
    chosen = range(len(shape)) if axes is None else [int(a) for a in np.ravel(axes)]
    if pads is None or np.size(pads) != 2 * len(chosen) or any(not -len(shape) <= a < len(shape) for a in chosen):
        raise ValueError(f"pads {pads} for the axes {list(chosen)}")
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r}, known are {', '.join(_MODES)}")
    before, after = [0] * len(shape), [0] * len(shape)
    for position, axis in enumerate(chosen):
        before[axis], after[axis] = (int(p) for p in np.reshape(pads, (2, -1))[:, position])
    if any(n + b + a < 0 for n, b, a in zip(shape, before, after, strict=True)):
        raise ValueError(f"pads {np.ravel(pads).tolist()} take more than there is of {list(shape)}")
    if mode == "edge":
        return (surrounded(maker, x, before, after),)
    if mode == "constant":
        value = scalar(maker, call.input(2)) if call.input(2) else number(maker, 0, maker.type(x).dtype)
        return (surrounded(maker, x, before, after, value),)
    cut = True
    for axis, (n, b, a) in enumerate(zip(shape, before, after, strict=True)):
        if b > 0 or a > 0:
            x, cut = maker.node("Gather", x, maker.tensor(_table(mode, n, b, a)), axis=axis), False
        else:
            x = window(maker, x, {axis: (-b, n + b + a)})
    return (x if cut else laid_out(maker, x),)


def _table(mode: str, n: int, before: int, after: int) -> np.ndarray:
    """Which element of an axis of n each one shows, from `before` elements in front of it to `after` behind it."""
    place = np.arange(-before, n + after)
    if mode == "wrap":
        return (place % n).astype(np.int32)
    period = max(2 * (n - 1), 1)
    place = place % period
    return np.minimum(place, period - place if n > 1 else 0).astype(np.int32)


def scalar(maker: Maker, value: str) -> str:
    """A value of one element, without axes."""
    shape = maker.type(value).shape
    return maker.node("Reshape", value, maker.tensor(np.zeros(0, np.int64))) if shape else value


def number(maker: Maker, value: float, dtype: str) -> str:
    """One number as a constant."""
    return maker.tensor(np.asarray(value, dtype))


def surrounded(maker: Maker, x: str, before: Sequence[int], after: Sequence[int], value: str = "") -> str:
    """x with so many elements added in front of and behind each axis (taken away where negative).

    They are `value`, or without one the nearest element of x.
    """
    shape = maker.type(x).shape
    if max((*before, *after), default=0) <= 0:
        return window(
            maker, x, {a: (-b, n + b + e) for a, (n, b, e) in enumerate(zip(shape, before, after, strict=True))}
        )
    sizes = [n + b + e for n, b, e in zip(shape, before, after, strict=True)]
    return maker.node("Padded", *filter(None, (x, value)), starts=[-b for b in before], sizes=sizes)


def laid_out(maker: Maker, x: str) -> str:
    """x itself, but laid out in memory where a reduction reads it, which would otherwise follow x's views each time."""
    shape = maker.type(x).shape
    return maker.node("Padded", x, starts=[0] * len(shape), sizes=list(shape))


def spread(maker: Maker, x: str, axis: int, step: int) -> str:
    """x with step - 1 zeros between neighbours along an axis, which is not the first."""
    if step == 1:
        return x
    shape = list(maker.type(x).shape)
    n = shape[axis]
    y = maker.node("Reshape", x, maker.tensor(np.array([0, *shape[1 : axis + 1], 1, *shape[axis + 1 :]], np.int64)))
    none = [0] * (len(shape) + 1)
    after = [step - 1 if a == axis + 1 else 0 for a in range(len(none))]
    y = surrounded(maker, y, none, after, number(maker, 0, maker.type(x).dtype))
    shape[axis] = n * step
    y = maker.node("Reshape", y, maker.tensor(np.array([0, *shape[1:]], np.int64)))
    return window(maker, y, {axis: (0, (n - 1) * step + 1)})
