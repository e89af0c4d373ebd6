"""Runs an ONNX file of standard operators with the functions of an array library: NumPy, or JAX, which compiles it.

Only the operators that the benchmark's files hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Operator = Callable[..., Any]
_ZERO = np.zeros(1, np.float32)


def function_of(path: Path, xp: Any) -> Callable[..., Any]:
    """The first output as a function of the inputs, in the arrays of `xp`. Raises KeyError for an unknown operator."""
    graph = onnx.load(path).graph
    table = _operators(xp)
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    names = [port.name for port in graph.input if port.name not in weights]
    steps = [(table[n.op_type], list(n.input), list(n.output), _attributes(n)) for n in graph.node]

    def run(*inputs: Any) -> Any:
        values: dict[str, Any] = {"": None, **weights, **dict(zip(names, inputs, strict=True))}
        for operator, read, written, attributes in steps:
            values[written[0]] = operator(*[values[name] for name in read], **attributes)
        return values[graph.output[0].name]

    return run


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for k, v in found.items()}


def _whole(values: Any) -> tuple[int, ...]:
    """Numbers that must be known before the arrays are: shapes, axes, places."""
    return tuple(int(v) for v in np.asarray(values).ravel())


def _operators(xp: Any) -> dict[str, Operator]:
    return {
        "Abs": lambda x: xp.abs(x),
        "Add": lambda a, b: a + b,
        "Clip": lambda x, low=None, high=None: _clip(xp, x, low, high),
        "Concat": lambda *parts, axis: _joined(xp, parts, axis),
        "ConstantOfShape": lambda shape, value=_ZERO: xp.full(_whole(shape), value[0], value.dtype),
        "Div": lambda a, b: a / b,
        "Expand": lambda x, shape: xp.broadcast_to(x, np.broadcast_shapes(x.shape, _whole(shape))),
        "Gather": lambda x, places, axis=0: xp.take(x, np.asarray(places), axis=axis),
        "Identity": lambda x: x,
        "MatMul": lambda a, b: xp.matmul(a, b),
        "Mul": lambda a, b: a * b,
        "Neg": lambda x: -x,
        "Pow": lambda a, b: xp.power(a, b),
        "Reciprocal": lambda x: 1 / x,
        "ReduceSum": lambda x, axes=None, keepdims=1, noop_with_empty_axes=0: xp.sum(
            x, axis=None if axes is None else _whole(axes), keepdims=bool(keepdims)
        ),
        "Reshape": lambda x, shape, allowzero=0: xp.reshape(x, _reshaped(x.shape, _whole(shape))),
        "Shape": lambda x, start=0, end=None: np.array(x.shape[start:end]),
        "Slice": _slice,
        "Sqrt": lambda x: xp.sqrt(x),
        "Squeeze": lambda x, axes: xp.squeeze(x, axis=_whole(axes)),
        "Sub": lambda a, b: a - b,
        "Transpose": lambda x, perm=None: xp.transpose(x, perm),
        "Unsqueeze": lambda x, axes: xp.expand_dims(x, _whole(axes)),
        "Where": lambda c, a, b: xp.where(c, a, b),
    }


def _clip(xp: Any, x: Any, low: Any, high: Any) -> Any:
    x = x if low is None else xp.maximum(x, low)
    return x if high is None else xp.minimum(x, high)


def _joined(xp: Any, parts: Sequence[Any], axis: int) -> Any:
    """Shapes stay NumPy's: they must be known."""
    known = all(isinstance(part, np.ndarray) for part in parts)
    return (np if known else xp).concatenate(parts, axis=axis)


def _reshaped(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(old[i] if n == 0 else n for i, n in enumerate(new))


def _slice(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    first, last = _whole(starts), _whole(ends)
    along = range(len(first)) if axes is None else _whole(axes)
    strides = (1,) * len(first) if steps is None else _whole(steps)
    index: list[slice] = [slice(None)] * x.ndim
    for axis, a, b, step in zip(along, first, last, strides, strict=True):
        index[axis] = slice(a, None if step < 0 and b < -x.shape[axis] else b, step)
    return x[tuple(index)]
