"""ONNX nodes as nodes of a `Program` and back, whatever they compute: any operator, domain, attribute, inner graph.

An opaque node's attributes are `proto`, the bytes of the ONNX node without its names, `explicit`, how many of its
inputs stand in the node's own list, and `results`, the positions of its outputs. What its inner graphs read from
outside follows behind the explicit inputs. Inside `proto` such a value is called `outer <i>` and a value that an inner
graph makes `inner <i>`, so that equal computations have equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from unfoldc.kernels.program import Node, Origin

STANDARD = ("", "ai.onnx")
_RESERVED = re.compile(r"(inner|outer) \d+")
_RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)


def reserved(name: str) -> bool:
    """Whether a value of the whole graph may not have this name."""
    return _RESERVED.fullmatch(name) is not None


def opaque_node(
    proto: NodeProto,
    name: Callable[[str], str],
    constant: Callable[[TensorProto], str | None],
    origin: Origin,
) -> Node:
    """The node of a program for an ONNX node.

    name() gives the program's name of a value of the whole graph. constant() takes in a constant of an inner graph, as
    a value of the whole graph whose name it returns, or returns None to leave it where it is.
    """
    copy = NodeProto()
    copy.CopyFrom(proto)
    explicit = [name(i) if i else "" for i in proto.input]
    while explicit and not explicit[-1]:
        explicit.pop()
    inner = _Inner(name, constant)
    for attribute in copy.attribute:
        for graph in _graphs(attribute):
            inner.enter(graph, {})
    results = [position for position, o in enumerate(proto.output) if o]
    del copy.input[:], copy.output[:]
    copy.domain = "" if copy.domain in STANDARD else copy.domain
    _strip(copy)
    ordered = sorted(copy.attribute, key=lambda a: a.name)
    del copy.attribute[:]
    copy.attribute.extend(ordered)
    content = np.frombuffer(copy.SerializeToString(deterministic=True), np.uint8)
    return Node(
        operator=f"{copy.domain or 'ai.onnx'}.{copy.op_type}",
        inputs=(*explicit, *inner.captured),
        outputs=tuple(proto.output[p] for p in results),
        attributes={"proto": content, "explicit": len(explicit), "results": tuple(results)},
        origin=origin,
    )


def onnx_node(node: Node, name: Callable[[str], str] = str) -> NodeProto:
    """The ONNX node of an opaque one; name() gives the names of its inputs and outputs."""
    proto = NodeProto()
    proto.ParseFromString(node.attributes["proto"].tobytes())
    explicit = node.attributes["explicit"]
    proto.input.extend(name(i) if i else "" for i in node.inputs[:explicit])
    results = dict(zip(node.attributes["results"], node.outputs, strict=True))
    proto.output.extend(name(results[p]) if p in results else "" for p in range(max(results) + 1))
    proto.name = node.origin.node
    outer = {f"outer {i}": name(value) for i, value in enumerate(node.inputs[explicit:])}
    if outer:
        for attribute in proto.attribute:
            for graph in _graphs(attribute):
                _rename(graph, outer)
    return proto


def copy_of(value: str, result: str, origin: Origin) -> Node:
    """A node that hands on a value under another name."""
    proto = onnx.helper.make_node("Identity", [value], [result])
    return opaque_node(proto, str, lambda tensor: None, origin)


def captured_names(proto: NodeProto) -> list[str]:
    """The values of the whole graph that the node's inner graphs read."""
    inner = _Inner(str, lambda tensor: None)
    copy = NodeProto()
    copy.CopyFrom(proto)
    for attribute in copy.attribute:
        for graph in _graphs(attribute):
            inner.enter(graph, {})
    return inner.captured


def is_random(proto: NodeProto, functions: Sequence[onnx.FunctionProto] = ()) -> bool:
    """Whether the node may give another result each time; its inner graphs and the functions it calls count."""
    if proto.domain in STANDARD and (proto.op_type in _RANDOM or proto.op_type == "Dropout"):
        return True
    called = [f for f in functions if (f.domain, f.name) == (proto.domain, proto.op_type)]
    bodies: list[NodeProto] = [n for f in called for n in f.node]
    bodies += [n for a in proto.attribute for g in _graphs(a) for n in g.node]
    others = [f for f in functions if f not in called]  # a function never calls itself
    return any(is_random(n, others) for n in bodies)


def constant_of(proto: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node; None for other nodes, and for kinds of constants that are no plain tensor."""
    if proto.op_type != "Constant" or proto.domain not in STANDARD or len(proto.attribute) != 1:
        return None
    (a,) = proto.attribute
    if a.name == "value" and a.type == AttributeProto.TENSOR:
        tensor: TensorProto = a.t
        return tensor
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if a.name not in types:
        return None
    value = onnx.helper.get_attribute_value(a)
    return onnx.numpy_helper.from_array(np.asarray(value, types[a.name]))


@dataclass
class _Inner:
    """Renames what inner graphs define, and collects what they read from outside."""

    name: Callable[[str], str]
    constant: Callable[[TensorProto], str | None]
    captured: list[str] = field(default_factory=list)
    count: int = 0

    def enter(self, graph: GraphProto, scope: dict[str, str]) -> None:
        """Rewrites one graph, given the names that the graphs around it define."""
        scope = dict(scope)
        results = {o.name for o in graph.output}
        graph.name = "inner"
        graph.doc_string = ""
        del graph.value_info[:], graph.metadata_props[:]
        for value in graph.input:
            value.name = self.define(value.name, scope)
        kept = []
        for tensor in graph.initializer:
            lifted = None if tensor.name in results or tensor.name in scope else self.constant(tensor)
            if lifted is not None:
                scope[tensor.name] = self.capture(lifted)
                continue
            tensor.name = scope[tensor.name] if tensor.name in scope else self.define(tensor.name, scope)
            kept.append(tensor)
        _replace(graph.initializer, kept)
        for sparse in graph.sparse_initializer:
            sparse.values.name = self.define(sparse.values.name, scope)
        nodes = []
        for node in graph.node:
            tensor_ = constant_of(node) if node.output[0] not in results else None
            lifted = None if tensor_ is None else self.constant(tensor_)
            if lifted is not None:
                scope[node.output[0]] = self.capture(lifted)
                continue
            self.node(node, scope)
            nodes.append(node)
        _replace(graph.node, nodes)
        for value in graph.output:
            value.name = self.read(value.name, scope)

    def node(self, node: NodeProto, scope: dict[str, str]) -> None:
        """Rewrites one node of an inner graph."""
        _strip(node)
        node.input[:] = [self.read(i, scope) for i in node.input]
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                self.enter(graph, scope)
        node.output[:] = [self.define(o, scope) if o else "" for o in node.output]

    def define(self, name: str, scope: dict[str, str]) -> str:
        """A new name for a value made inside."""
        scope[name] = f"inner {self.count}"
        self.count += 1
        return scope[name]

    def read(self, name: str, scope: dict[str, str]) -> str:
        """The new name of a value that an inner graph reads."""
        if not name or name in scope:
            return scope.get(name, name)
        return self.capture(self.name(name))

    def capture(self, value: str) -> str:
        """A placeholder for one read of a value of the whole graph: two reads may differ in other iterations."""
        self.captured.append(value)
        return f"outer {len(self.captured) - 1}"


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                _rename(inner, names)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.type == AttributeProto.GRAPH:
        yield attribute.g
    elif attribute.type == AttributeProto.GRAPHS:
        yield from attribute.graphs


def _strip(node: NodeProto) -> None:
    node.name = node.doc_string = ""
    del node.metadata_props[:]
    for attribute in node.attribute:
        attribute.doc_string = ""
        if attribute.type == AttributeProto.TENSOR:
            attribute.t.name = attribute.t.doc_string = ""


def _replace(items: object, kept: Sequence[object]) -> None:
    """Leaves those items of a repeated field; the copies outlive the deletion."""
    copies = [type(item)() for item in kept]
    for copy, item in zip(copies, kept, strict=True):
        copy.CopyFrom(item)  # type: ignore[attr-defined]
    del items[:]  # type: ignore[attr-defined]
    items.extend(copies)  # type: ignore[attr-defined]
