"""Small unfolded solvers as ONNX models, made by hand so that each pass meets the case that it was written for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc.kernels.from_onnx import ImportedModel, import_onnx

M, N = 4, 6
BATCH = 3
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64}


def random(name: str, *shape: int, scale: float = 0.3) -> np.ndarray:
    """Numbers that depend on the name alone, so that models of different K share their first layers."""
    rng = np.random.default_rng(list(name.encode()))
    return np.asarray(rng.standard_normal(shape) * scale)


class Graph:
    """Collects nodes. `k` is the iteration that new nodes belong to, None outside; `style` is how the model says so."""

    def __init__(self, dtype: str = "float32", style: str = "names", opset: int = 18) -> None:
        self.dtype, self.style, self.opset = dtype, style, opset
        self.k: int | None = None
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *shape: int | str, dtype: str | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype or self.dtype], shape))
        return name

    def weight(self, name: str, value: Any, dtype: str | None = None) -> str:
        array = np.asarray(value, dtype or self.dtype)
        assert name not in self.weights or np.array_equal(self.weights[name], array)
        self.weights[name] = array
        return name

    def __call__(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        number = len(self.nodes)
        out = out or f"v{number}"
        name = f"{operator}_{number}"
        if self.style == "names":
            name = (f"iteration.{self.k}/" if self.k is not None else "") + name
        node = helper.make_node(operator, inputs, [out], name=name, **attributes)
        if self.style == "scopes":
            entry = node.metadata_props.add()
            entry.key = "pkg.torch.onnx.name_scopes"
            entry.value = str(["", *([f"its.{self.k}"] if self.k is not None else []), operator.lower()])
        self.nodes.append(node)
        return out

    def model(self, *outputs: str, metadata: str = "") -> onnx.ModelProto:
        """The model, without what the outputs do not need, as exporters write it."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                kept.append(node)
        tensors = [numpy_helper.from_array(v, n) for n, v in self.weights.items() if n in needed]
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for info in infos:
            info.type.tensor_type.elem_type = TYPES[self.dtype]
        graph = helper.make_graph(kept[::-1], "solver", self.inputs, infos, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        if metadata:
            entry = model.metadata_props.add()
            entry.key, entry.value = "unfoldc", metadata
        return model

    def soft(self, x: str, threshold: str) -> str:
        """Soft thresholding."""
        return self("Mul", self("Sign", x), self("Relu", self("Sub", self("Abs", x), threshold)))

    def layer(self, x: str, y: str, w1: str, w2: str, theta: str) -> str:
        return self.soft(self("Add", self("MatMul", x, w2), self("MatMul", y, w1)), theta)

    def zeros(self, y: str, n: int = N) -> str:
        """Zeros with as many rows as y, as torch exports them."""
        rows = self("Slice", self("Shape", y), self.weight("0", [0], "int64"), self.weight("1", [1], "int64"))
        shape = self("Concat", rows, self.weight("n", [n], "int64"), axis=0)
        return self("Expand", self.weight("zero", 0.0), shape)

    def first_weights(self) -> tuple[str, str, str]:
        w1, w2 = self.weight("W1", random("W1", M, N)), self.weight("W2", random("W2", N, N))
        return w1, w2, self.weight("theta", 0.05)


Maker = Callable[..., onnx.ModelProto]
MAKERS: dict[str, tuple[Maker, dict[str, Any]]] = {}


def case(segments: int = 1, stops: bool = True) -> Callable[[Maker], Maker]:
    """Registers a model: how many bodies do four iterations become, and may the answer be read after any of them?"""

    def register(maker: Maker) -> Maker:
        MAKERS[maker.__name__] = (maker, {"segments": segments, "stops": stops})
        return maker

    return register


@case()
def ista_tied(K: int, **options: Any) -> onnx.ModelProto:
    g = Graph(**options)
    y, x = g.input("y", "batch", M), ""
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    return g.model(x)


@case()
def float64(K: int) -> onnx.ModelProto:
    return ista_tied(K, dtype="float64")


@case()
def scopes(K: int) -> onnx.ModelProto:
    return ista_tied(K, style="scopes")


@case()
def no_boundaries(K: int) -> onnx.ModelProto:
    return ista_tied(K, style="none")


@case()
def ista_untied(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    x = g.zeros(y)
    for g.k in range(K):
        w1 = g.weight(f"W1.{g.k}", random(f"W1.{g.k}", M, N))
        x = g.layer(x, y, w1, g.weight(f"W2.{g.k}", random(f"W2.{g.k}", N, N)), g.weight(f"t.{g.k}", [0.01 * g.k]))
    return g.model(x)


@case()
def copied_weights(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    x = g.zeros(y)
    for g.k in range(K):
        w1 = g.weight(f"W1.{g.k}", random("W1", M, N))
        x = g.layer(x, y, w1, g.weight(f"W2.{g.k}", random("W2", N, N)), g.weight(f"t.{g.k}", 0.05))
    return g.model(x)


@case()
def wide(K: int) -> onnx.ModelProto:
    """Gradient steps with A, transposed on the fly, wide enough for the widest vectors."""
    g = Graph()
    n = 19
    y, a = g.input("y", "batch", M), g.weight("A", random("A", M, n))
    mu = g.weight("mu", 0.2)
    x = g.zeros(y, n)
    for g.k in range(K):
        r = g("Sub", g("MatMul", x, g("Transpose", a, perm=[1, 0])), y)
        x = g.soft(g("Sub", x, g("Mul", mu, g("MatMul", r, a))), g.weight(f"t.{g.k}", 0.01 + 0.01 * g.k))
    return g.model(x)


@case()
def fista(K: int) -> onnx.ModelProto:
    """The extrapolated point is dead in the last layer; the iterate before is a state."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = z = g.zeros(y)
    for g.k in range(K):
        new = g.layer(z, y, *weights)
        z = g("Add", new, g("Mul", g.weight(f"beta.{g.k}", 0.1 + 0.1 * g.k), g("Sub", new, x)))
        x = new
    return g.model(x)


@case()
def heavy_ball(K: int) -> onnx.ModelProto:
    """Each layer reads the last two iterates, so one of them waits in a state."""
    g = Graph()
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


@case()
def three_back(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    xs = [g("MatMul", y, w1), g.zeros(y), g("Neg", g("MatMul", y, w1))]
    for g.k in range(K):
        xs.append(g.soft(g("Add", g("MatMul", xs[-3], w2), xs[-1]), theta))
    return g.model(xs[-1])


@case()
def admm(K: int) -> onnx.ModelProto:
    g = Graph()
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


@case()
def conjugate_gradient(K: int) -> onnx.ModelProto:
    """States of several shapes; the last layer lacks three of four updates."""
    g = Graph()
    b = g.input("b", "batch", N)
    root = random("W2", N, N)
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


@case(segments=2)
def first_differs(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = y
    for g.k in range(K):
        x = g.layer(x, y, w1, w2, theta) if g.k else g.soft(g("MatMul", y, w1), theta)
    return g.model(x)


@case(segments=2)
def shortcut(K: int) -> onnx.ModelProto:
    """All later layers read the first one's result, which must not be taken from the state that starts with it."""
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = first = y
    for g.k in range(K):
        if g.k == 0:
            x = first = g.soft(g("MatMul", y, w1), theta)
        else:
            x = g("Add", g.layer(x, y, w1, w2, theta), first)
    return g.model(x)


@case(segments=3, stops=False)
def middle_differs(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, w1, w2, theta)
        if g.k == 1:
            x = g("Tanh", x)
    return g.model(x)


@case(segments=3, stops=False)
def width_changes(K: int) -> onnx.ModelProto:
    """The first two layers work on half of the unknowns: same operators, other shapes."""
    g = Graph()
    y = g.input("y", "batch", M)
    half = N // 2
    x = g.zeros(y, half)
    for g.k in range(K):
        n, old = (N if g.k >= 2 else half), (N if g.k > 2 else half)
        w1, w2 = g.weight(f"W1.{n}", random("a", M, n)), g.weight(f"W2.{old}.{n}", random("b", old, n))
        x = g.layer(x, y, w1, w2, g.weight("theta", 0.05))
    g.k = None
    return g.model(g("ReduceSum", x, g.weight("last", [-1], "int64"), keepdims=1))


@case()
def learned_start(K: int) -> onnx.ModelProto:
    """The first state has one row for the whole batch."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.weight("x0", random("x0", 1, N))
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    return g.model(x)


@case(segments=2)
def start_without_batch(K: int) -> onnx.ModelProto:
    """The first state has one axis less than the others: the first iteration is peeled."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.weight("x0", random("x0", N))
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    return g.model(x)


@case()
def swap(K: int) -> onnx.ModelProto:
    """Two states change places."""
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, theta = g.first_weights()
    a, b = g("MatMul", y, w1), g.zeros(y)
    for g.k in range(K):
        a, b = b, g.soft(g("Add", g("MatMul", a, w2), g("Neg", b)), theta)
    g.k = None
    return g.model(g("Sub", a, g("Mul", b, theta)))


@case()
def matrices(K: int) -> onnx.ModelProto:
    """Low rank plus sparse, on matrices, with a reshape and a transpose between."""
    g = Graph()
    d = g.input("D", "batch", M, N)
    p = g.weight("P", random("P", M, M))
    low = sparse = g("Mul", d, g.weight("none", [0.0]))
    for g.k in range(K):
        low = g("MatMul", p, g("Sub", d, sparse))
        rest = g("Transpose", g("Sub", d, low), perm=[0, 2, 1])
        flat = g("Reshape", rest, g.weight("flat", [0, -1], "int64"))
        soft = g("Reshape", g.soft(flat, g.weight("theta", 0.05)), g.weight("back", [-1, N, M], "int64"))
        sparse = g("Transpose", soft, perm=[0, 2, 1])
    return g.model(low, sparse)


def _gradient(K: int, g: Graph, y: str, h: str, batched: bool) -> onnx.ModelProto:
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


@case()
def operator_per_call(K: int) -> onnx.ModelProto:
    g = Graph()
    return _gradient(K, g, g.input("y", "batch", M), g.input("H", M, N), False)


@case()
def operator_per_problem(K: int) -> onnx.ModelProto:
    g = Graph()
    return _gradient(K, g, g.input("y", "batch", M), g.input("H", "batch", M, N), True)


@case()
def columns(K: int) -> onnx.ModelProto:
    """Problems as columns inside, as rows outside."""
    g = Graph()
    y = g("Transpose", g.input("y", "batch", M), perm=[1, 0])
    w1, w2 = g.weight("W1", random("W1", N, M)), g.weight("W2", random("W2", N, N))
    b = g("MatMul", w1, y)
    x = g("Mul", b, g.weight("none", [0.0]))
    for g.k in range(K):
        x = g.soft(g("Add", g("MatMul", w2, x), b), g.weight("theta", 0.05))
    g.k = None
    return g.model(g("Transpose", x, perm=[1, 0]))


@case()
def scalar_input(K: int) -> onnx.ModelProto:
    """A batched input beside a number and a vector that are shared."""
    g = Graph()
    y, theta, bias = g.input("y", "batch", M), g.input("theta"), g.input("bias", N)
    w1, w2, _ = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(g("Add", x, g("Mul", bias, theta)), y, w1, w2, theta)
    return g.model(x)


@case()
def one_number(K: int) -> onnx.ModelProto:
    """A fixed shape without a batch, and states that are numbers."""
    g = Graph()
    a = g.input("a")
    a = x = g("Add", g("Abs", a), g.weight("one", 1.0))
    for g.k in range(K):
        x = g("Mul", g.weight("half", 0.5), g("Add", x, g("Div", a, x)))
    return g.model(x)


@case()
def step_from_table(K: int) -> onnx.ModelProto:
    """Per-iteration numbers picked from one vector, and rows sliced from one matrix."""
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, _ = g.first_weights()
    thetas, biases = g.weight("thetas", random("t", 12) ** 2), g.weight("biases", random("b", 12, N))
    x = g.zeros(y)
    for g.k in range(K):
        theta = g("Gather", thetas, g.weight(f"i{g.k}", g.k, "int64"), axis=0)
        ends = g.weight(f"s{g.k}", [g.k], "int64"), g.weight(f"s{g.k + 1}", [g.k + 1], "int64")
        x = g("Add", g.layer(x, y, w1, w2, theta), g("Slice", biases, *ends, g.weight("s0", [0], "int64")))
    return g.model(x)


@case(segments=4, stops=False)
def slice_of_input(K: int) -> onnx.ModelProto:
    """Each layer takes another column of the input: no common body."""
    g = Graph()
    y = g.input("y", "batch", 12)
    x = g.zeros(y)
    for g.k in range(K):
        ends = g.weight(f"s{g.k}", [g.k], "int64"), g.weight(f"s{g.k + 1}", [g.k + 1], "int64")
        column = g("Slice", y, *ends, g.weight("s1", [1], "int64"))
        x = g("Tanh", g("Add", g("MatMul", x, g.weight("W2", random("W2", N, N))), column))
    return g.model(x)


@case(segments=4, stops=False)
def new_data_each_time(K: int) -> onnx.ModelProto:
    """Each layer reads a value of `begin` of its own."""
    g = Graph()
    y = g.input("y", "batch", M)
    fresh = [g("MatMul", y, g.weight(f"V{k}", random(f"V{k}", M, N))) for k in range(K)]
    x = g.zeros(y)
    for g.k in range(K):
        x = g("Tanh", g("Add", g("MatMul", x, g.weight("W2", random("W2", N, N))), fresh[g.k]))
    return g.model(x)


@case(segments=3, stops=False)
def mean_of_iterates(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x, xs = g.zeros(y), []
    for g.k in range(K):
        x = g.layer(x, y, *weights)
        xs.append(x)
    g.k = None
    return g.model(g("Mul", g("Sum", *xs), g.weight("scale", 1 / K)))


@case(segments=2, stops=False)
def also_the_second(K: int) -> onnx.ModelProto:
    """One answer is an iterate in the middle."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
        if g.k == min(1, K - 1):
            second = x
    return g.model(x, second) if second != x else g.model(x, g("Identity", x))


@case()
def last_step(K: int) -> onnx.ModelProto:
    """The end reads the last two iterates."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = before = g.zeros(y)
    for g.k in range(K):
        before, x = x, g.layer(x, y, *weights)
    g.k = None
    return g.model(x, g("Sub", x, before))


@case()
def objective_in_the_last(K: int) -> onnx.ModelProto:
    """The last layer computes more than the others: exporters drop what only it was asked for."""
    g = Graph()
    y, a = g.input("y", "batch", M), g.weight("A", random("A", M, N))
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
        r = g("Sub", g("MatMul", x, g("Transpose", a, perm=[1, 0])), y)
        value = g("ReduceSumSquare", r, g.weight("last", [-1], "int64"), keepdims=0)
    return g.model(x, value)


@case()
def many_outputs(K: int) -> onnx.ModelProto:
    """One value under two names, an input, and a state that begin makes."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = start = g("MatMul", y, weights[0])
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    g.k = None
    return g.model(x, g("Identity", x, out="again"), g("Identity", y, out="copy of y"), start)


@case()
def constant_output(K: int) -> onnx.ModelProto:
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        x = g.layer(x, y, *weights)
    g.k = None
    return g.model(x, g("Identity", weights[0], out="W"))


@case()
def other_order_each_time(K: int) -> onnx.ModelProto:
    """Each layer permutes the unknowns in its own way: an index that is the iteration's own constant."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        order = g.weight(f"order.{g.k}", np.roll(np.arange(N), g.k) - N * (g.k % 2), "int64")
        x = g("Gather", g.layer(x, y, *weights), order, axis=1)
    return g.model(x)


@case()
def last_parameter(K: int) -> onnx.ModelProto:
    """The end reads what an iteration makes of its own parameter: a state that is set from a stacked constant."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        bias = g("Exp", g.weight(f"b.{g.k}", random(f"b.{g.k}", N)))
        x = g("Add", g.layer(x, y, *weights), bias)
    g.k = None
    return g.model(g("Sub", x, bias))


@case()
def equal_at_first(K: int) -> onnx.ModelProto:
    """Two parameters that start equal and then part: two stacks that begin with one constant."""
    g = Graph()
    y = g.input("y", "batch", M)
    w1, w2, _ = g.first_weights()
    x = g.zeros(y)
    for g.k in range(K):
        low, high = g.weight(f"low.{g.k}", 0.1 / (1 + g.k)), g.weight(f"high.{g.k}", 0.1 * (1 + g.k))
        x = g("Mul", g.layer(x, y, w1, w2, low), g("Add", high, g.weight("1.0", 1.0)))
    return g.model(x)


@case()
def work_between(K: int) -> onnx.ModelProto:
    """Nodes that belong to no iteration by name but stand between them."""
    g = Graph()
    y = g.input("y", "batch", M)
    weights = g.first_weights()
    x = g.zeros(y)
    for k in range(K):
        g.k = k
        x = g.layer(x, y, *weights)
        g.k = None
        x = g("Mul", x, g.weight("scale", 0.9))
    return g.model(x)


@case()
def compiler_names(K: int) -> onnx.ModelProto:
    """Values named like those that the compiler makes."""
    model = ista_untied(K)
    likely = ["state 0.0", "state 0.1", "zeros float32[1, 6]", "state 0.0 (before)", "h0", "W1.0 (stacked 0+4)"]
    old = [n.output[0] for n in model.graph.node if n.op_type in ("MatMul", "Add", "Abs", "Sub")]
    rename = dict(zip(old, likely, strict=False))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [rename.get(n, n) for n in names]
    return model


@case()
def iterates_given(K: int) -> onnx.ModelProto:
    """Every iterate is an output, said to be one by the metadata."""
    model = ista_tied(K)
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


@dataclass(frozen=True)
class Case:
    """A model for any K, and what is to be expected of it at K = 4."""

    name: str
    make: Maker
    segments: int
    stops: bool

    def problems(self, count: int = BATCH) -> dict[str, np.ndarray]:
        """Inputs for a batch of problems."""
        return feeds(self.make(1), count)


def feeds(model: onnx.ModelProto, count: int) -> dict[str, np.ndarray]:
    """Random inputs; lengths that are not given are `count`."""
    result = {}
    names = {v: k for k, v in TYPES.items()}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value or count for d in tensor.shape.dim]
        result[value.name] = np.asarray(random(value.name, *shape, scale=1.0), names[tensor.elem_type])
    return result


def single(inputs: Mapping[str, np.ndarray], model: ImportedModel, item: int) -> dict[str, np.ndarray]:
    """One problem of a batch, in the shapes of the program."""
    types = model.program.types
    return {
        p.name: (inputs[p.name][item] if p.batched else inputs[p.name]).reshape(types[p.name].shape)
        for p in model.inputs
    }


def run_onnx(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    used = {i.name for i in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in inputs.items() if k in used}), strict=True))


def close(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], limit: float = 1e-5) -> None:
    """Asserts that arrays agree, relative to the largest element of the wanted one."""
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        scale = max(1.0, float(np.abs(w).max(initial=0)))
        assert f.size == w.size
        assert np.abs(f.reshape(w.shape) - w).max(initial=0) <= limit * scale


class Workshop:
    """What tests of several modules need; the fixture `workshop` hands it out."""

    Graph, random, single = Graph, staticmethod(random), staticmethod(single)
    feeds, run_onnx, close = staticmethod(feeds), staticmethod(run_onnx), staticmethod(close)
    makers: Mapping[str, tuple[Maker, dict[str, Any]]] = MAKERS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved = cache(self._saved)

    def save(self, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = self.folder / name
        path.write_bytes(model.SerializeToString())
        return path

    def _saved(self, name: str, K: int) -> Path:
        return self.save(MAKERS[name][0](K), f"{name}.{K}.onnx")

    def imported(self, model: onnx.ModelProto, **options: Any) -> ImportedModel:
        return import_onnx(self.save(model), **options)

    def case(self, name: str) -> Case:
        maker, more = MAKERS[name]
        return Case(name, maker, **more)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=sorted(MAKERS))
def solver(request: pytest.FixtureRequest, workshop: Workshop) -> Case:
    """Every model in turn."""
    return workshop.case(request.param)
