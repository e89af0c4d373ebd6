"""The bodies of If, Loop and Scan: what they read from outside, and how they look regardless of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of a node."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def captured(node: onnx.NodeProto) -> tuple[str, ...]:
    """Values that the bodies of a node read from the graphs around them, each once, in order."""
    found: dict[str, None] = {}
    for body in bodies(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        for inner in body.node:
            found.update(dict.fromkeys(n for n in (*inner.input, *captured(inner)) if n and n not in own))
            own.update(inner.output)
        found.update(dict.fromkeys(v.name for v in body.output if v.name not in own))
    return tuple(found)


def rename_captured(body: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Point a body at outer values by other names, and free it of the exporter's notes."""
    own = {v.name for v in body.input} | {t.name for t in body.initializer} | {v for n in body.node for v in n.output}
    visible = {old: new for old, new in names.items() if old not in own}
    for node in body.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.input[:] = [visible.get(name, name) for name in node.input]
        for inner in bodies(node):
            rename_captured(inner, visible)
    for value in (*body.input, *body.output, *body.value_info):
        del value.metadata_props[:]
        value.name = visible.get(value.name, value.name)


def canonical(node: onnx.NodeProto) -> bytes:
    """A node's attributes, equal for nodes that differ in the names of values only."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    outside = {name: f"outside.{i}" for i, name in enumerate(captured(node))}
    for body in bodies(copy):
        _number(body, outside)
    plain = onnx.NodeProto()
    plain.attribute.extend(sorted(copy.attribute, key=lambda attribute: attribute.name))
    for attribute in plain.attribute:
        attribute.doc_string = ""
    text: bytes = plain.SerializeToString(deterministic=True)
    return text


def _number(body: onnx.GraphProto, outside: Mapping[str, str]) -> None:
    names = dict(outside)
    own = [v.name for v in body.input] + [t.name for t in body.initializer] + [v for n in body.node for v in n.output]
    names.update((name, f"inside.{len(outside)}.{i}") for i, name in enumerate(own))
    body.name = body.doc_string = ""
    del body.value_info[:]
    for tensor in body.initializer:
        tensor.name = names[tensor.name]
    for value in (*body.input, *body.output):
        value.name = names.get(value.name, value.name)
        del value.metadata_props[:]
    for node in body.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in bodies(node):
            _number(inner, names)
