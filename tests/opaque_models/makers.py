"""The models: contributed operators, inner graphs, functions, shapes that depend on data, names that collide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from opaque_models.graph import N, OpaqueGraph, random


def gelu(K: int) -> onnx.ModelProto:
    """A contributed operator, and a number of its own in each iteration."""
    g = OpaqueGraph()
    x = b = g.start()
    w = g.weight("W2", random("W2", N, N))
    for g.k in range(K):
        step = g("Mul", b, g.weight(f"t.{g.k}", 0.1 + 0.1 * g.k))
        x = g("Gelu", g("Add", g("MatMul", x, w), step), domain="com.microsoft")
    return g.model(x)


def unnamed(K: int) -> onnx.ModelProto:
    """The same without boundaries."""
    model = gelu(K)
    for node in model.graph.node:
        node.name = ""
    return model


def fused(K: int) -> onnx.ModelProto:
    """Contributed operators that read weights of their own."""
    g = OpaqueGraph()
    x = g.start()
    for g.k in range(K):
        w, bias = g.weight(f"W.{g.k}", random(f"W.{g.k}", N, N)), g.weight(f"b.{g.k}", random(f"b.{g.k}", N))
        x = g("BiasGelu", g("FusedMatMul", x, w, domain="com.microsoft", transB=1), bias, domain="com.microsoft")
    return g.model(x)


def determinant(K: int) -> onnx.ModelProto:
    """A standard operator that few compilers know."""
    g = OpaqueGraph()
    x = b = g.start()
    shape, eye, axis = g.weight("shape", [0, 2, 3], "int64"), g.weight("eye", np.eye(3)), g.weight("axis", [1], "int64")
    for g.k in range(K):
        m = g("Reshape", x, shape)
        gram = g("Add", g("MatMul", g("Transpose", m, perm=[0, 2, 1]), m), eye)
        x = g("Tanh", g("Div", g("Add", x, b), g("Unsqueeze", g("Det", gram), axis)))
    return g.model(x)


def counts(K: int) -> onnx.ModelProto:
    """Shapes inside begin and inside each iteration depend on the data; what is carried has a fixed one."""
    g = OpaqueGraph()
    x = b = g.start()
    values = g("Unique", g("Round", b), results=4, sorted=1)[0]
    count = g("Cast", g("Shape", values), to=TensorProto.FLOAT)
    for g.k in range(K):
        positive = g("ReduceSum", g("Cast", g("NonZero", g("Relu", x)), to=TensorProto.FLOAT), keepdims=0)
        weight = g("Tanh", g("Mul", positive, g.weight("small", 0.01)))
        x = g("Tanh", g("Add", g("Div", x, count), g("Mul", b, weight)))
    return g.model(x)


def shrinking(K: int) -> onnx.ModelProto:
    """What is carried gets shorter, depending on the data."""
    g = OpaqueGraph()
    x = b = g.start()
    values = g("Reshape", g("Round", g("Mul", b, g.weight("ten", 10.0))), g.weight("flat", [-1], "int64"))
    for g.k in range(K):
        values = g("Unique", g("Round", g("Mul", values, g.weight("half", 0.5))), results=4, sorted=1)[0]
        x = g("Add", x, g("ReduceMax", values, keepdims=0))
    return g.model(x)


def branches(K: int) -> onnx.ModelProto:
    """Each iteration chooses between two inner graphs, which read values and constants of their own."""
    g = OpaqueGraph()
    x = b = g.start()
    for g.k in range(K):
        k, one = g.k, helper.make_empty_tensor_value_info
        positive = g("Greater", g("ReduceSum", x, keepdims=0), g.weight(f"limit.{k}", 0.1 * k))
        scale = numpy_helper.from_array(np.array(0.5 + 0.1 * k, np.float32), f"scale.{k}")
        first = [
            helper.make_node("Mul", [x, f"scale.{k}"], [f"p.{k}"]),
            helper.make_node("Add", [f"p.{k}", b], [f"q.{k}"]),
        ]
        constant = helper.make_node(
            "Constant", [], [f"c.{k}"], value=numpy_helper.from_array(np.array(-0.5 - k, np.float32))
        )
        second = [constant, helper.make_node("Mul", [x, f"c.{k}"], [f"r.{k}"])]
        x = g(
            "If",
            positive,
            then_branch=helper.make_graph(first, f"then.{k}", [], [one(f"q.{k}")], [scale]),
            else_branch=helper.make_graph(second, f"else.{k}", [], [one(f"r.{k}")]),
        )
    return g.model(x)


def inner_loop(K: int) -> onnx.ModelProto:
    """Each iteration runs a loop, of its own number of trips, whose body reads a weight from outside."""
    g = OpaqueGraph()
    x = b = g.start()
    w = g.weight("W2", random("W2", N, N))
    for g.k in range(K):
        trips = g.weight(f"trips.{g.k}", 2 + g.k % 2, "int64")
        x = g("Loop", trips, "", x, body=_body(f".{g.k}", w, b))
    return g.model(x)


def _body(mark: str, w: str, b: str) -> onnx.GraphProto:
    nodes = [
        helper.make_node("MatMul", [f"x{mark}", w], [f"p{mark}"]),
        helper.make_node("Tanh", [f"p{mark}"], [f"q{mark}"]),
        helper.make_node("Add", [f"q{mark}", b], [f"r{mark}"]),
        helper.make_node("Identity", [f"go{mark}"], [f"on{mark}"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info(f"i{mark}", TensorProto.INT64, []),
        info(f"go{mark}", TensorProto.BOOL, []),
        info(f"x{mark}", TensorProto.FLOAT, None),
    ]
    outputs = [info(f"on{mark}", TensorProto.BOOL, []), info(f"r{mark}", TensorProto.FLOAT, None)]
    return helper.make_graph(nodes, f"body{mark}", inputs, outputs)


def functions(K: int) -> onnx.ModelProto:
    """Each iteration is one call of a function, which calls another."""
    g = OpaqueGraph()
    x = b = g.start()
    standard, own = helper.make_opsetid("", 18), helper.make_opsetid("own", 1)
    step = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Inner", ["q"], ["z"], domain="own"),
    ]
    inner = [helper.make_node("Tanh", ["x"], ["z"])]
    g.functions = [
        helper.make_function("own", "Step", ["x", "w", "b"], ["z"], step, [standard, own]),
        helper.make_function("own", "Inner", ["x"], ["z"], inner, [standard]),
    ]
    for g.k in range(K):
        x = g("Step", x, g.weight(f"W.{g.k}", random(f"W.{g.k}", N, N)), b, domain="own")
    return g.model(x)


def one_function(K: int) -> onnx.ModelProto:
    """All iterations lie inside one function."""
    g = OpaqueGraph()
    b, nodes, x = g.start(), [], "b"
    for k in range(K):
        for operator, inputs, output in (
            ("MatMul", [x, "w"], f"p.{k}"),
            ("Tanh", [f"p.{k}"], f"q.{k}"),
            ("Add", [f"q.{k}", "b"], f"x.{k}"),
        ):
            nodes.append(helper.make_node(operator, inputs, [output], name=f"iteration.{k}/{operator}"))
        x = f"x.{k}"
    g.functions = [helper.make_function("own", "Solve", ["b", "w"], [x], nodes, [helper.make_opsetid("", 18)])]
    return g.model(g("Solve", b, g.weight("W2", random("W2", N, N)), domain="own"))


def largest(K: int) -> onnx.ModelProto:
    """A node with two results, both of which are read, and an output of integers."""
    g = OpaqueGraph()
    x = b = g.start()
    three, last = g.weight("three", [3], "int64"), g.weight("last", [-1], "int64")
    for g.k in range(K):
        kept, places = g("TopK", g("Abs", x), three, results=2)
        mask = g("Cast", g("GreaterOrEqual", g("Abs", x), g("ReduceMin", kept, last)), to=TensorProto.FLOAT)
        x = g("Add", g("Mul", x, mask), g("Mul", b, g.weight(f"mu.{g.k}", 0.1 + 0.01 * g.k)))
    return g.model(x, places)


def half(K: int) -> onnx.ModelProto:
    """Half precision."""
    g = OpaqueGraph("float16")
    x = b = g.start()
    for g.k in range(K):
        x = g("Tanh", g("Add", g("MatMul", x, g.weight(f"W.{g.k}", random(f"W.{g.k}", N, N))), b))
    return g.model(x)


def taken_names(K: int) -> onnx.ModelProto:
    """Values named like those that the splitter makes."""
    model = branches(K)
    likely = ["inner 0", "outer 0", "state 0.0", "result 0", "inner 1"]
    rename = dict(zip([n.output[0] for n in model.graph.node], likely, strict=False))

    def inside(nodes: Any) -> None:
        for node in nodes:
            node.input[:] = [rename.get(i, i) for i in node.input]
            node.output[:] = [rename.get(o, o) for o in node.output]
            for attribute in node.attribute:
                inside(attribute.g.node)

    inside(model.graph.node)
    for value in model.graph.output:
        value.name = rename.get(value.name, value.name)
    return model


Maker = Callable[[int], onnx.ModelProto]
MODELS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        gelu, unnamed, fused, determinant, counts, shrinking, branches, inner_loop, functions, one_function,
        largest, half, taken_names,
    )
}  # fmt: skip


def sequence(K: int) -> onnx.ModelProto:
    """Iterations that collect their results in a sequence, which is no array."""
    g = OpaqueGraph()
    x = g.start()
    kept = g("SequenceConstruct", x)
    for g.k in range(K):
        x = g("Tanh", g("Mul", x, g.weight(f"s.{g.k}", 0.5 + g.k)))
        kept = g("SequenceInsert", kept, x)
    g.k = None
    return g.model(g("ConcatFromSequence", kept, axis=1))


def traced(K: int, mean: bool = False) -> onnx.ModelProto:
    """Every iterate is handed out, joined along an axis of its own, or their mean is the answer."""
    g = OpaqueGraph()
    x = b = g.start()
    axis, all_of_them = g.weight("axis", [1], "int64"), []
    for g.k in range(K):
        x = g("Tanh", g("Add", g("Celu", x), g("Mul", b, g.weight(f"mu.{g.k}", 0.1 + 0.2 * g.k))))
        all_of_them.append(x)
    g.k = None
    trace = g("Concat", *[g("Unsqueeze", value, axis) for value in all_of_them], axis=1)
    return g.model(g("ReduceMean", trace, axis, keepdims=0)) if mean else g.model(x, trace)


# Models whose parts cannot be told apart: all of it is one iteration.
one_iteration: dict[str, Maker] = {"sequence": sequence}
