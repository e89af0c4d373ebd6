"""Solvers with an input that is new in each iteration; `g` collects the nodes, K is the number of iterations.

Not among the models that every test of the compiler meets in turn: their inputs grow with K.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

M, N = 3, 5


def _slice(g: Any, y: str, k: int) -> str:
    return str(g("Gather", y, g.weight(f"at {k}", k, "int64"), axis=1))


def _stack(g: Any, rows: list[str], axis: int = 1) -> str:
    axes = g.weight("axis", [axis], "int64")
    return str(g("Concat", *(g("Unsqueeze", row, axes) for row in rows), axis=axis))


def _update(g: Any, x: str, y: str, k: int | None = None) -> str:
    """x F + (y - x H) G, the same in each iteration, or with a gain of its own."""
    F, H = g.weight("F", g.random("F", N, N)), g.weight("H", g.random("H", N, M))
    gain = g.weight("G" if k is None else f"G{k}", g.random("G" if k is None else f"G{k}", M, N))
    return str(g("Add", g("MatMul", x, F), g("MatMul", g("Sub", y, g("MatMul", x, H)), gain)))


def tracker(g: Any, K: int) -> onnx.ModelProto:
    """All estimates and the last one; iterations differ in their measurement only."""
    y = g.input("y", "batch", K, M)
    x, rows = g.zeros(y, N), []
    for g.k in range(K):
        x = _update(g, x, _slice(g, y, g.k))
        rows.append(x)
    g.k = None
    return g.model(_stack(g, rows), g("Identity", x))


def gains(g: Any, K: int) -> onnx.ModelProto:
    """A gain for each iteration, a channel that is no stream, estimates along the last axis."""
    y, channel = g.input("y", "batch", K, M), g.input("channel", "batch", M, M)
    x, rows = g.zeros(y, N), []
    for g.k in range(K):
        axes = g.weight("one axis", [1], "int64")
        seen = g("MatMul", g("Unsqueeze", _slice(g, y, g.k), axes), channel)
        x = _update(g, x, g("Squeeze", seen, axes), g.k)
        rows.append(x)
    g.k = None
    return g.model(_stack(g, rows, 2))


def from_the_first(g: Any, K: int) -> onnx.ModelProto:
    """The first measurement is the first estimate; its errors, joined without an axis for the iteration."""
    y = g.input("y", "batch", K, M)
    x, rows = _slice(g, y, 0), []
    for g.k in range(K):
        error = g("Sub", _slice(g, y, g.k), x)
        x = g("Tanh", g("Add", x, g("MatMul", error, g.weight("G", g.random("G", M, M)))))
        rows.append(error)
    g.k = None
    return g.model(x, g("Concat", *rows, axis=1))


def two_streams(g: Any, K: int) -> onnx.ModelProto:
    """Parts of two elements of one input, an element of another; the sum of squares is an answer per iteration."""
    a, b = g.input("a", "batch", 2 * K), g.input("b", "batch", K)
    x, rows = g.zeros(a, 2), []
    for g.k in range(K):
        ends = [g.weight(f"cut {i}", [i], "int64") for i in (2 * g.k, 2 * g.k + 2)]
        part = g("Slice", a, *ends, g.weight("columns", [1], "int64"))
        number = g("Unsqueeze", _slice(g, b, g.k), g.weight("columns", [1], "int64"))
        x = g("Tanh", g("Add", g("Mul", x, number), part))
        rows.append(g("ReduceSumSquare", x, g.weight("columns", [1], "int64"), keepdims=0))
    g.k = None
    return g.model(_stack(g, rows), x)


def read_before(g: Any, K: int) -> onnx.ModelProto:
    """No stream: the start needs all measurements."""
    y = g.input("y", "batch", K, M)
    x = g("ReduceMean", y, g.weight("rows", [1], "int64"), keepdims=0)
    for g.k in range(K):
        x = g("Tanh", g("Add", x, _slice(g, y, g.k)))
    return g.model(x)


def read_later(g: Any, K: int) -> onnx.ModelProto:
    """No stream: the end needs all measurements."""
    y = g.input("y", "batch", K, M)
    x = g.zeros(y, M)
    for g.k in range(K):
        x = g("Tanh", g("Add", x, _slice(g, y, g.k)))
    g.k = None
    return g.model(g("Add", x, g("ReduceMax", y, g.weight("rows", [1], "int64"), keepdims=0)))


def also_the_next(g: Any, K: int) -> onnx.ModelProto:
    """No stream: each iteration reads two slices."""
    y = g.input("y", "batch", K + 1, M)
    x = g.zeros(y, M)
    for g.k in range(K):
        x = g("Tanh", g("Add", g("Add", x, _slice(g, y, g.k)), _slice(g, y, g.k + 1)))
    return g.model(x)


def columns(g: Any, K: int) -> onnx.ModelProto:
    """No stream: slices along the last axis do not lie in one piece."""
    y = g.input("y", "batch", M, K)
    x = g.zeros(y, M)
    for g.k in range(K):
        x = g("Tanh", g("Add", x, g("Gather", y, g.weight(f"at {g.k}", g.k, "int64"), axis=2)))
    return g.model(x)


def backwards(g: Any, K: int) -> onnx.ModelProto:
    """No stream: the last slice comes first."""
    y = g.input("y", "batch", K, M)
    x = g.zeros(y, M)
    for g.k in range(K):
        x = g("Tanh", g("Add", x, _slice(g, y, K - 1 - g.k)))
    return g.model(x)


def scaled_rows(g: Any, K: int) -> onnx.ModelProto:
    """A stream as input, but its output is no copy of what the iterations leave."""
    y = g.input("y", "batch", K, M)
    x, rows = g.zeros(y, M), []
    for g.k in range(K):
        x = g("Tanh", g("Add", x, _slice(g, y, g.k)))
        rows.append(x)
    g.k = None
    return g.model(g("Mul", _stack(g, rows), g.weight("two", 2.0)))


def middle_differs(g: Any, K: int) -> onnx.ModelProto:
    """Iterations of two kinds."""
    y = g.input("y", "batch", K, M)
    x = g.zeros(y, M)
    for g.k in range(K):
        x = g("Sigmoid" if g.k == 1 else "Tanh", g("Add", x, _slice(g, y, g.k)))
    return g.model(x)


# Name -> what is found: elements per iteration of each stream, inputs and outputs, and whether it may go on for ever.
Found = tuple[dict[str, int], dict[str, int], bool]
STREAMS: dict[str, tuple[Callable[[Any, int], onnx.ModelProto], Found]] = {
    "tracker": (tracker, ({"input_0": M}, {"output_0": N}, True)),
    "gains": (gains, ({"input_0": M}, {"output_0": N}, False)),
    "from_the_first": (from_the_first, ({"input_0": M}, {"output_1": M}, True)),
    "two_streams": (two_streams, ({"input_0": 2, "input_1": 1}, {"output_0": 1}, True)),
    "scaled_rows": (scaled_rows, ({"input_0": M}, {}, False)),
}
NO_STREAMS = (read_before, read_later, also_the_next, columns, backwards, middle_differs)
