"""Solvers whose iterations become one body; `g` collects the nodes, K is the number of iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

M, N = 4, 6


def ista_tied(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    return g.model(x)


def float64(g: Any, K: int) -> onnx.ModelProto:
    return ista_tied(g, K)


def scopes(g: Any, K: int) -> onnx.ModelProto:
    return ista_tied(g, K)


def no_boundaries(g: Any, K: int) -> onnx.ModelProto:
    return ista_tied(g, K)


def two_kinds_in_turn(g: Any, K: int) -> onnx.ModelProto:
    """A gradient step and a threshold as layers of their own: the pair is the iteration."""
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = g.zeros(y)
    for g.k in range(2 * K):
        if g.k % 2 == 0:
            v = g("Add", g("MatMul", x, w2), g("MatMul", y, w1))
        else:
            x = g("Mul", g("Sign", v), g("Relu", g("Sub", g("Abs", v), g.weight(f"t{g.k}", [0.01 * g.k]))))
    return g.model(x)


def ista_untied(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    x = g.zeros(y)
    for g.k in range(K):
        w1 = g.weight(f"W1.{g.k}", g.random(f"W1.{g.k}", M, N))
        x = g.layer(x, y, w1, g.weight(f"W2.{g.k}", g.random(f"W2.{g.k}", N, N)), g.weight(f"t.{g.k}", [0.01 * g.k]))
    return g.model(x)


def copied_weights(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    x = g.zeros(y)
    for g.k in range(K):
        w1 = g.weight(f"W1.{g.k}", g.random("W1", M, N))
        x = g.layer(x, y, w1, g.weight(f"W2.{g.k}", g.random("W2", N, N)), g.weight(f"t.{g.k}", 0.05))
    return g.model(x)


def wide(g: Any, K: int) -> onnx.ModelProto:
    """Gradient steps with A, transposed on the fly, wide enough for the widest vectors."""
    n = 19
    y, a = g.input("y", "batch", M), g.weight("A", g.random("A", M, n))
    mu = g.weight("mu", 0.2)
    x = g.zeros(y, n)
    for g.k in range(K):
        r = g("Sub", g("MatMul", x, g("Transpose", a, perm=[1, 0])), y)
        x = g.soft(g("Sub", x, g("Mul", mu, g("MatMul", r, a))), g.weight(f"t.{g.k}", 0.01 + 0.01 * g.k))
    return g.model(x)


def fista(g: Any, K: int) -> onnx.ModelProto:
    """The extrapolated point is dead in the last layer; the iterate before is a state."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = z = g.zeros(y)
    for g.k in range(K):
        new = g.layer(z, y, *weights)
        z = g("Add", new, g("Mul", g.weight(f"beta.{g.k}", 0.1 + 0.1 * g.k), g("Sub", new, x)))
        x = new
    return g.model(x)


def heavy_ball(g: Any, K: int) -> onnx.ModelProto:
    """Each layer reads the last two iterates, so one of them waits in a state."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g("MatMul", y, weights[0])
    before = g.zeros(y)
    for g.k in range(K):
        new = g.soft(
            g("Add", g("MatMul", x, weights[1]), g("Mul", g.weight("beta", 0.3), g("Sub", x, before))), "theta"
        )
        before, x = x, new
    return g.model(x)


def three_back(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    xs = [g("MatMul", y, w1), g.zeros(y), g("Neg", g("MatMul", y, w1))]
    for g.k in range(K):
        xs.append(g.soft(g("Add", g("MatMul", xs[-3], w2), xs[-1]), theta))
    return g.model(xs[-1])


def admm(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    w1, w2, _ = g.first_weights()
    b = g("MatMul", y, w1)
    x, z, u = g.zeros(y), b, g("Neg", b)
    for g.k in range(K):
        x = g("MatMul", g("Add", b, g("Sub", z, u)), w2)
        z = g.soft(g("Add", x, u), g.weight(f"t.{g.k}", 0.02 * (1 + g.k)))
        u = g("Add", u, g("Sub", x, z))
    g.k = None
    return g.model(g("Mul", z, g.weight("scale", 2.0)))


def conjugate_gradient(g: Any, K: int) -> onnx.ModelProto:
    """States of several shapes; the last layer lacks three of four updates."""
    b = g.input("b", "batch", N)
    root = g.random("W2", N, N)
    q = g.weight("Q", root @ root.T + 2 * np.eye(N))

    def norm(r: str) -> str:
        return g("ReduceSum", g("Mul", r, r), g.weight("last", [-1], "int64"), keepdims=1)

    x, r, p = g("Mul", b, g.weight("none", [0.0])), b, b
    rr = norm(r)
    for g.k in range(K):
        qp = g("MatMul", p, q)
        alpha = g("Div", rr, g("ReduceSum", g("Mul", p, qp), "last", keepdims=1))
        x, r = g("Add", x, g("Mul", alpha, p)), g("Sub", r, g("Mul", alpha, qp))
        new = norm(r)
        p = g("Add", r, g("Mul", g("Div", new, rr), p))
        rr = new
    return g.model(x)


def learned_start(g: Any, K: int) -> onnx.ModelProto:
    """The first state has one row for the whole batch."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.weight("x0", g.random("x0", 1, N))
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    return g.model(x)


def swap(g: Any, K: int) -> onnx.ModelProto:
    """Two states change places."""
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    a, b = g("MatMul", y, w1), g.zeros(y)
    for g.k in range(K):
        a, b = b, g.soft(g("Add", g("MatMul", a, w2), g("Neg", b)), theta)
    g.k = None
    return g.model(g("Sub", a, g("Mul", b, theta)))


def matrices(g: Any, K: int) -> onnx.ModelProto:
    """Low rank plus sparse, on matrices, with a reshape and a transpose between."""
    d = g.input("D", "batch", M, N)
    p = g.weight("P", g.random("P", M, M))
    low = sparse = g("Mul", d, g.weight("none", [0.0]))
    for g.k in range(K):
        low = g("MatMul", p, g("Sub", d, sparse))
        rest = g("Transpose", g("Sub", d, low), perm=[0, 2, 1])
        flat = g("Reshape", rest, g.weight("flat", [0, -1], "int64"))
        soft = g("Reshape", g.soft(flat, g.weight("theta", 0.05)), g.weight("back", [-1, N, M], "int64"))
        sparse = g("Transpose", soft, perm=[0, 2, 1])
    return g.model(low, sparse)


def _gradient(g: Any, K: int, y: str, h: str, batched: bool) -> onnx.ModelProto:
    axis = g.weight("last", [-1], "int64")
    x = g.zeros(y)
    for g.k in range(K):
        if batched:
            r = g("Sub", g("Squeeze", g("MatMul", h, g("Unsqueeze", x, axis)), axis), y)
            back = g("MatMul", g("Transpose", h, perm=[0, 2, 1]), g("Unsqueeze", r, axis))
            step = g("Squeeze", back, axis)
        else:
            r = g("Sub", g("MatMul", x, g("Transpose", h, perm=[1, 0])), y)
            step = g("MatMul", r, h)
        x = g.soft(g("Sub", x, g("Mul", g.weight(f"mu.{g.k}", 0.1 + 0.05 * g.k), step)), g.weight("theta", 0.02))
    return g.model(x)


def operator_per_call(g: Any, K: int) -> onnx.ModelProto:
    return _gradient(g, K, g.input("y", "batch", M), g.input("H", M, N), False)


def operator_per_problem(g: Any, K: int) -> onnx.ModelProto:
    return _gradient(g, K, g.input("y", "batch", M), g.input("H", "batch", M, N), True)


def columns(g: Any, K: int) -> onnx.ModelProto:
    """Problems as columns inside, as rows outside."""
    y = g("Transpose", g.input("y", "batch", M), perm=[1, 0])
    w1, w2 = g.weight("W1", g.random("W1", N, M)), g.weight("W2", g.random("W2", N, N))
    b = g("MatMul", w1, y)
    x = g("Mul", b, g.weight("none", [0.0]))
    for g.k in range(K):
        x = g.soft(g("Add", g("MatMul", w2, x), b), g.weight("theta", 0.05))
    g.k = None
    return g.model(g("Transpose", x, perm=[1, 0]))


def scalar_input(g: Any, K: int) -> onnx.ModelProto:
    """A batched input beside a number and a vector that are shared."""
    y, theta, bias = g.input("y", "batch", M), g.input("threshold"), g.input("bias", N)
    w1, w2, _ = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(g("Add", x, g("Mul", bias, theta)), y, w1, w2, theta)
    return g.model(x)


def one_number(g: Any, K: int) -> onnx.ModelProto:
    """A fixed shape without a batch, and states that are numbers."""
    a = g.input("a")
    a = x = g("Add", g("Abs", a), g.weight("one", 1.0))
    for g.k in range(K):
        x = g("Mul", g.weight("half", 0.5), g("Add", x, g("Div", a, x)))
    return g.model(x)


def step_from_table(g: Any, K: int) -> onnx.ModelProto:
    """Per-iteration numbers picked from one vector, and rows sliced from one matrix."""
    y = g.input("y", "batch", M)
    w1, w2, _ = g.first_weights()
    thetas, biases = g.weight("thetas", g.random("t", 12) ** 2), g.weight("biases", g.random("b", 12, N))
    x = g.zeros(y)
    for g.k in range(K):
        theta = g("Gather", thetas, g.weight(f"i{g.k}", g.k, "int64"), axis=0)
        ends = g.weight(f"s{g.k}", [g.k], "int64"), g.weight(f"s{g.k + 1}", [g.k + 1], "int64")
        x = g("Add", g.layer(x, y, w1, w2, theta), g("Slice", biases, *ends, g.weight("s0", [0], "int64")))
    return g.model(x)


def last_step(g: Any, K: int) -> onnx.ModelProto:
    """The end reads the last two iterates."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = before = g.zeros(y)
    for g.k in range(K):
        before, x = x, g.layer(x, y, *weights)
    g.k = None
    return g.model(x, g("Sub", x, before))


def objective_in_the_last(g: Any, K: int) -> onnx.ModelProto:
    """The last layer computes more than the others: exporters drop what only it was asked for."""
    y, a = g.input("y", "batch", M), g.weight("A", g.random("A", M, N))
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
        r = g("Sub", g("MatMul", x, g("Transpose", a, perm=[1, 0])), y)
        value = g("ReduceSumSquare", r, g.weight("last", [-1], "int64"), keepdims=0)
    return g.model(x, value)


def many_outputs(g: Any, K: int) -> onnx.ModelProto:
    """One value under two names, an input, and a state that begin makes."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = start = g("MatMul", y, weights[0])
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    g.k = None
    return g.model(x, g("Identity", x, out="again"), g("Identity", y, out="copy of y"), start)


def constant_output(g: Any, K: int) -> onnx.ModelProto:
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    g.k = None
    return g.model(x, g("Identity", weights[0], out="W"))


def parameters_made_outside(g: Any, K: int) -> onnx.ModelProto:
    """Thresholds are computed, and the tied weight is transposed, for each layer but in front of all."""
    y = g.input("y", "batch", M)
    w1, theta = g.weight("W1", g.random("W1", N, M)), g.weight("theta", 0.05)
    turned = [g("Transpose", w1, perm=[1, 0]) for _ in range(K)]
    scales = [g("Exp", g.weight(f"s.{k}", g.random(f"s.{k}", N))) for k in range(K)]
    columns = [g("Transpose", g.weight(f"W2.{k}", g.random(f"W2.{k}", N, N)), perm=[1, 0]) for k in range(K)]
    x = g.zeros(y)
    for g.k in range(K):
        x = g("Mul", g.layer(x, y, turned[g.k], columns[g.k], theta), scales[g.k])
    return g.model(x)


def other_order_each_time(g: Any, K: int) -> onnx.ModelProto:
    """Each layer permutes the unknowns in its own way: an index that is the iteration's own constant."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        order = g.weight(f"order.{g.k}", np.roll(np.arange(N), g.k) - N * (g.k % 2), "int64")
        x = g("Gather", g.layer(x, y, *weights), order, axis=1)
    return g.model(x)


def last_parameter(g: Any, K: int) -> onnx.ModelProto:
    """The end reads what an iteration makes of its own parameter: a state that is set from a stacked constant."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        bias = g("Exp", g.weight(f"b.{g.k}", g.random(f"b.{g.k}", N)))
        x = g("Add", g.layer(x, y, *weights), bias)
    g.k = None
    return g.model(g("Sub", x, bias))


def equal_at_first(g: Any, K: int) -> onnx.ModelProto:
    """Two parameters that start equal and then part: two stacks that begin with one constant."""
    y = g.input("y", "batch", M)
    w1, w2, _ = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        low, high = g.weight(f"low.{g.k}", 0.1 / (1 + g.k)), g.weight(f"high.{g.k}", 0.1 * (1 + g.k))
        x = g("Mul", g.layer(x, y, w1, w2, low), g("Add", high, g.weight("1.0", 1.0)))
    return g.model(x)


def work_between(g: Any, K: int) -> onnx.ModelProto:
    """Nodes that belong to no iteration by name but stand between them."""
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for k in range(K):
        g.k = k
        x = g.layer(x, y, *weights)
        g.k = None
        x = g("Mul", x, g.weight("scale", 0.9))
    return g.model(x)


def compiler_names(g: Any, K: int) -> onnx.ModelProto:
    """Values named like those that the compiler makes."""
    model = ista_untied(g, K)
    likely = ["state 0.0", "state 0.1", "zeros float32[1, 6]", "state 0.0 (before)", "h0", "W1.0 (stacked 0+4)"]
    old = [n.output[0] for n in model.graph.node if n.op_type in ("MatMul", "Add", "Abs", "Sub")]
    rename = dict(zip(old, likely, strict=False))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [rename.get(n, n) for n in names]
    return model


def iterates_given(g: Any, K: int) -> onnx.ModelProto:
    """Every iterate is an output, said to be one by the metadata."""
    model = ista_tied(g, K)
    last = model.graph.output[0].name
    names = []
    for k in range(K):
        (made,) = (n.output[0] for n in model.graph.node if n.name.startswith(f"iteration.{k}/Mul"))
        names.append(f"{last}.iterate.{k}")
        model.graph.node.append(helper.make_node("Identity", [made], [names[-1]], name=f"iteration.{k}/copy"))
        model.graph.output.append(helper.make_empty_tensor_value_info(names[-1]))
        model.graph.output[-1].type.tensor_type.elem_type = TensorProto.FLOAT
    entry = model.metadata_props.add()
    entry.key = "unfoldc"
    entry.value = str({"format": 1, "iterations": K, "iterates": {last: names}}).replace("'", '"')
    return model
