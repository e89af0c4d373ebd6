"""From a listing back to an ONNX model, with names that say to which part of the solver everything belongs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

from unfoldc.export.labels import Labels
from unfoldc.export.linear_algebra import add_functions
from unfoldc.export.listing import Listing, Op
from unfoldc.export.names import Interface, Names, shown_values, with_batch
from unfoldc.export.subgraphs import bodies, rename_captured

METADATA_KEY = "unfoldc"


def assemble(
    listing: Listing, labels: Labels, names: Names, interface: Interface, opset: int, metadata: Mapping[str, Any]
) -> onnx.ModelProto:
    """The ONNX model; the same arguments give the same bytes."""
    shown = shown_values(listing, labels, interface)
    nodes = [_node(op, name, names.values) for op, name in zip(listing.ops, names.nodes, strict=True)]
    copies = 0
    for value, name in zip(listing.outputs, interface.outputs, strict=True):
        if shown.get(value) != name:
            source = names.values[value]
            nodes.append(onnx.helper.make_node("Identity", [source], [name], f"end/output.Identity_{copies}"))
            copies += 1

    def info(value: str, name: str) -> onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name=name, type=with_batch(listing.types.get(value), interface.batch_symbol))

    inside = [v for op in listing.ops for v in op.outputs if v in listing.types and v not in shown]
    graph = onnx.GraphProto(
        name="solver",
        node=nodes,
        input=[info(v, n) for v, n in zip(listing.inputs, interface.inputs, strict=True)],
        output=[info(v, n) for v, n in zip(listing.outputs, interface.outputs, strict=True)],
        value_info=[info(v, names.values[v]) for v in inside],
    )
    for name in sorted(listing.constants, key=names.values.__getitem__):
        tensor = graph.initializer.add()
        tensor.CopyFrom(listing.constants[name])
        tensor.name, tensor.doc_string = names.values[name], ""
        del tensor.metadata_props[:]
    model = onnx.ModelProto(ir_version=10, producer_name="unfoldc", graph=graph)
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    add_functions(model, opset)
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=text))
    return model


def _node(op: Op, name: str, values: Mapping[str, str]) -> onnx.NodeProto:
    node = onnx.NodeProto(op_type=op.kind, domain=op.proto.domain, name=name, attribute=op.proto.attribute)
    arity = len(op.reads) - len(op.captured)
    node.input.extend(values[r] if r else "" for r in op.reads[:arity])
    node.output.extend(values[v] if v else "" for v in op.outputs)
    outside = {old: values[new] for old, new in zip(op.captured, op.reads[arity:], strict=True)}
    for attribute in node.attribute:
        attribute.doc_string = ""
    for body in bodies(node):
        rename_captured(body, outside)
    return node
