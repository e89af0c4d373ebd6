"""Split and Slice: parts of a value. Where a part starts is data of its own: layers that differ in it are alike.

A part of fixed size, with fixed steps, is the internal operator `Window(x, starts)`.
"""

from __future__ import annotations

import numpy as np

from unfoldc.kernels.expansions.table import Call, Maker, axis_of, constant, expands


@expands("Split")
def split(maker: Maker, call: Call) -> tuple[str, ...]:
    """The parts of `split`, or of `num_outputs` equal ones (the last may be smaller)."""
    t = maker.type(call.inputs[0])
    axis, n = axis_of(call, len(t.shape), 0), len(call.outputs)
    wanted = constant(maker, call, 1)
    if wanted is None and "split" in call.attributes:
        wanted = np.asarray(call.attributes["split"])
    if wanted is None:
        size = -(-t.shape[axis] // n)
        sizes = [size] * (n - 1) + [t.shape[axis] - size * (n - 1)]
    else:
        sizes = [int(s) for s in np.ravel(wanted)]
    if len(sizes) != n or sum(sizes) != t.shape[axis] or min(sizes) < 0:
        raise ValueError(f"{t.shape[axis]} elements cannot be split into {sizes}")
    starts = np.cumsum([0, *sizes[:-1]])
    return tuple(window(maker, call.inputs[0], {axis: (int(s), size)}) for s, size in zip(starts, sizes, strict=True))


@expands("Slice")
def slices(maker: Maker, call: Call) -> tuple[str, ...]:
    """The part between starts and ends (NumPy's rules), with steps, along the given axes."""
    shape = maker.type(call.inputs[0]).shape
    starts, ends = (np.ravel(given(maker, call, i)) for i in (1, 2))
    axes, steps = constant(maker, call, 3), constant(maker, call, 4)
    axes = np.arange(len(starts)) if axes is None else np.ravel(axes)
    steps = np.ones(len(starts), np.int64) if steps is None else np.ravel(steps)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    parts: dict[int, tuple[int, int]] = {}
    strides: dict[int, int] = {}
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        if not -len(shape) <= axis < len(shape) or axis % len(shape) in parts or step == 0:
            raise ValueError(f"axis {axis} with steps of {step}, of a value with {len(shape)} axes")
        n = shape[axis]
        stop = None if step < 0 and end < -n else end
        first, last, stride = slice(start, stop, step).indices(n)
        parts[axis % len(shape)] = (first, len(range(first, last, stride)))
        strides[axis % len(shape)] = stride
    return (window(maker, call.inputs[0], parts, strides),)


def given(maker: Maker, call: Call, i: int) -> np.ndarray:
    """Input `i`, which must be there and constant."""
    value = constant(maker, call, i)
    if value is None:
        raise ValueError(f"input {i} is missing")
    return value


def window(maker: Maker, value: str, parts: dict[int, tuple[int, int]], strides: dict[int, int] | None = None) -> str:
    """The part of `value` with, along each axis of `parts`, `size` elements from `start` on."""
    shape = maker.type(value).shape
    strides = strides or {}
    chosen = {a: p for a, p in parts.items() if p != (0, shape[a]) or strides.get(a, 1) != 1}
    if not chosen:
        return value
    axes = sorted(chosen)
    starts = maker.tensor(np.array([chosen[a][0] for a in axes], np.int64))
    return maker.node(
        "Window",
        value,
        starts,
        axes=axes,
        sizes=[chosen[a][1] for a in axes],
        strides=[strides.get(a, 1) for a in axes],
    )
