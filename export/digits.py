"""The numbers of the module's code in a float64 model, with all their digits.

The exporter writes a Python number in float32 and converts the result, so 0.1 becomes 0.10000000149. Every node of its
model says from which call of torch it comes, arguments and all, and so what the number was.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from unfoldc.export.listing import constant_tensor, node_property
from unfoldc.export.subgraphs import bodies

_FX_NODE = "pkg.torch.onnx.fx_node"
_NUMBER = re.compile(r"(?<![\w.%@])-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_TARGET = re.compile(r"target=torch\.ops\.(\w+)\.(\w+)\.(\w+)\]")
# What the exporter's translations bring along themselves.
_OF_MATHEMATICS = (math.pi, math.pi / 180, 180 / math.pi, math.log(2), math.log(10), math.sqrt(2), 1 / 3, 1 / 6)
_FUNCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Sqrt": np.sqrt,
}


def keep_digits(model: onnx.ModelProto) -> None:
    """Convert to float64 the numbers themselves, not what float32 left of them; changes the exporter's model in place.

    A constant c in float32 that goes into Cast or CastLike is replaced by the float64 number p where p, rounded to
    float32, is c, and p stands among the arguments of the call of torch that the node translates (or among those that
    it leaves out, or the numbers of mathematics). Models without float64 stay as they are.
    """
    graph = model.graph
    declared = [*graph.input, *graph.output, *graph.value_info]
    if TensorProto.DOUBLE in {v.type.tensor_type.elem_type for v in declared} | {
        t.data_type for t in graph.initializer
    }:
        _repair(graph, {})


def arguments(node: onnx.NodeProto) -> tuple[float, ...]:
    """The numbers in the call of torch that a node translates, those it leaves out included."""
    text = node_property(node, _FX_NODE)
    given = map(float, _NUMBER.findall(text.partition("args = ")[2]))
    found = _TARGET.search(text)
    return (*given, *(_left_out(*found.groups()) if found else ()))


def _left_out(space: str, name: str, overload: str) -> Iterable[float]:
    called = getattr(getattr(getattr(torch.ops, space), name, None), overload, None)
    for argument in called._schema.arguments if called is not None else ():
        if isinstance(argument.default_value, float):
            yield argument.default_value


def _repair(graph: onnx.GraphProto, outer: Mapping[str, np.ndarray]) -> None:
    known = dict(outer)
    nodes = []
    for node in graph.node:
        for body in bodies(node):
            _repair(body, known)
        if node.op_type == "Constant":
            tensor = constant_tensor(node)
            if tensor.data_type == TensorProto.FLOAT:
                known[node.output[0]] = numpy_helper.to_array(tensor)
        elif node.op_type in _FUNCTIONS and node.input[0] in known:
            known[node.output[0]] = _FUNCTIONS[node.op_type](_exact(known[node.input[0]], node))
        elif (place := _place(node)) is not None and node.input[place] in known:
            found = known[node.input[place]]
            exact = _exact(found, node)
            if found.dtype == np.float64 or not np.array_equal(exact, found, equal_nan=True):
                name = f"{node.output[0]}.number"
                value = numpy_helper.from_array(exact)
                nodes.append(onnx.helper.make_node("Constant", [], [name], f"{node.name}.number", value=value))
                node.input[place] = name
        nodes.append(node)
    copies = [onnx.NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)


def _place(node: onnx.NodeProto) -> int | None:
    """Which input of the node may be a number that is meant in float64.

    CastLike to float32 gives the same for the number and for what is left of it; a power may have an exponent of
    another type than its base.
    """
    double = any(a.name == "to" and a.i == TensorProto.DOUBLE for a in node.attribute)
    return {"CastLike": 0, "Cast": 0 if double else None, "Pow": 1}.get(node.op_type)


def _exact(value: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    """The numbers of which float32 left `value`, where they are known; in float64."""
    result = np.array(value, np.float64)
    if value.dtype == np.float32:
        given = arguments(node)
        derived = (f(p) for p in given if p and math.isfinite(p) for f in (operator.neg, lambda p: 1 / p))
        with np.errstate(over="ignore"):
            for number in (*_OF_MATHEMATICS, *derived, *reversed(given)):
                result[value == np.float32(number)] = number
    return result
