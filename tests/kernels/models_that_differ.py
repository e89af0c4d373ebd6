"""Solvers with iterations unlike the others; `g` collects the nodes, K is the number of iterations."""

from __future__ import annotations

from typing import Any

import onnx

M, N = 4, 6


def first_differs(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = y
    for g.k in range(K):
        x = g.layer(x, y, w1, w2, theta) if g.k else g.soft(g("MatMul", y, w1), theta)
    return g.model(x)


def shortcut(g: Any, K: int) -> onnx.ModelProto:
    """All later layers read the first one's result, which must not be taken from the state that starts with it."""
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = first = y
    for g.k in range(K):
        if g.k == 0:
            x = first = g.soft(g("MatMul", y, w1), theta)
        else:
            x = g("Add", g.layer(x, y, w1, w2, theta), first)
    return g.model(x)


def middle_differs(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, w1, w2, theta)
        if g.k == 1:
            x = g("Tanh", x)
    return g.model(x)


def width_changes(g: Any, K: int) -> onnx.ModelProto:
    """The first two layers work on half of the unknowns: same operators, other shapes."""
    y = g.input("y", "batch", M)
    half = N // 2
    x = g.zeros(y, half)
    for g.k in range(K):
        n, old = (N if g.k >= 2 else half), (N if g.k > 2 else half)
        w1, w2 = g.weight(f"W1.{n}", g.random("a", M, n)), g.weight(f"W2.{old}.{n}", g.random("b", old, n))
        x = g.layer(x, y, w1, w2, g.weight("theta", 0.05))
    g.k = None
    return g.model(g("ReduceSum", x, g.weight("last", [-1], "int64"), keepdims=1))


def start_without_batch(g: Any, K: int) -> onnx.ModelProto:
    """The first state has one axis less than the others: the first iteration is peeled."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.weight("x0", g.random("x0", N))
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    return g.model(x)


def slice_of_input(g: Any, K: int) -> onnx.ModelProto:
    """A stream: each layer takes another column of the input."""
    y = g.input("y", "batch", 12)
    x = g.zeros(y)
    for g.k in range(K):
        ends = g.weight(f"s{g.k}", [g.k], "int64"), g.weight(f"s{g.k + 1}", [g.k + 1], "int64")
        column = g("Slice", y, *ends, g.weight("s1", [1], "int64"))
        x = g("Tanh", g("Add", g("MatMul", x, g.weight("W2", g.random("W2", N, N))), column))
    return g.model(x)


def new_data_each_time(g: Any, K: int) -> onnx.ModelProto:
    """Each layer reads a value of `begin` of its own, made like the others: it moves into the layer."""
    y = g.input("y", "batch", M)
    fresh = [g("MatMul", y, g.weight(f"V{k}", g.random(f"V{k}", M, N))) for k in range(K)]
    x = g.zeros(y)
    for g.k in range(K):
        x = g("Tanh", g("Add", g("MatMul", x, g.weight("W2", g.random("W2", N, N))), fresh[g.k]))
    return g.model(x)


def mean_of_iterates(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x, xs = g.zeros(y), []
    for g.k in range(K):
        x = g.layer(x, y, *weights)
        xs.append(x)
    g.k = None
    return g.model(g("Mul", g("Sum", *xs), g.weight("scale", 1 / K)))


def also_the_second(g: Any, K: int) -> onnx.ModelProto:
    """One answer is an iterate in the middle."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
        if g.k == min(1, K - 1):
            second = x
    return g.model(x, second) if second != x else g.model(x, g("Identity", x))


# Name -> how many bodies four iterations become, and whether the answer may be read after any of them.
EXPECTED = {
    "first_differs": (2, True),
    "shortcut": (2, True),
    "middle_differs": (3, False),
    "width_changes": (3, False),
    "start_without_batch": (2, True),
    "slice_of_input": (1, True),
    "new_data_each_time": (1, True),
    "mean_of_iterates": (1, False),
    "also_the_second": (2, False),
}
