"""Prints nodes as an ONNX model of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from unfoldc.kernels.program import Node
from unfoldc.kernels.split_onnx.opaque_nodes import STANDARD, onnx_node
from unfoldc.kernels.split_onnx.value_types import ValueType

# The newest file format that ONNX Runtime 1.20 reads; nothing that comes later is used.
_LARGEST_IR = 10


def print_model(
    name: str,
    frame: onnx.ModelProto,
    nodes: Sequence[Node],
    inputs: Mapping[str, ValueType],
    outputs: Mapping[str, ValueType],
    constants: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    """The model that computes `outputs` from `inputs`; of the constants it holds those that are read."""
    read = {i for node in nodes for i in node.inputs}
    protos = [onnx_node(node) for node in nodes]
    graph = helper.make_graph(
        protos,
        name,
        [_info(n, t) for n, t in inputs.items()],
        [_info(n, t) for n, t in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in sorted(constants.items()) if n in read and n not in inputs],
    )
    functions = _called(protos, frame.functions)
    model = helper.make_model(graph, producer_name="unfoldc", functions=functions)
    model.ir_version = min(max(frame.ir_version, 8), max(_LARGEST_IR, _needed_ir(frame)))
    del model.opset_import[:]
    model.opset_import.extend(sorted(frame.opset_import, key=lambda entry: entry.domain))
    return model


def _needed_ir(frame: onnx.ModelProto) -> int:
    """The file format that the standard operators of this version came with."""
    versions = [entry.version for entry in frame.opset_import if entry.domain in STANDARD]
    try:
        return int(helper.find_min_ir_version_for([helper.make_opsetid("", v) for v in versions]))
    except ValueError:
        return int(frame.ir_version)


def _called(protos: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto]) -> list[onnx.FunctionProto]:
    """The functions that the nodes call, or that those call."""
    if not functions:
        return []
    wanted: set[tuple[str, str]] = set()
    todo = list(protos)
    while todo:
        node = todo.pop()
        for attribute in node.attribute:
            todo.extend(attribute.g.node)
            todo.extend(n for graph in attribute.graphs for n in graph.node)
        if (node.domain, node.op_type) not in wanted:
            wanted.add((node.domain, node.op_type))
            todo.extend(n for f in functions if (f.domain, f.name) == (node.domain, node.op_type) for n in f.node)
    return [f for f in functions if (f.domain, f.name) in wanted]


def _info(name: str, type_: ValueType) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(type_.dtype))
    dims = type_.dims
    if dims is None and type_.seen is not None:
        dims = (None,) * len(type_.seen)
    return helper.make_tensor_value_info(name, element, dims)
