"""ONNX file -> a `Program` of opaque nodes: whatever the file computes, cut where its iterations begin and end.

The batch axis stays in the graph, which solves all problems of a batch at once, as its author wrote it. Types are those
of one problem, as stand-ins: they serve to compare layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from unfoldc.errors import ModelError, UnfoldcError
from unfoldc.kernels.layers import alive, split_into_parts
from unfoldc.kernels.program import Node, Origin, Program, Segment, TensorType, unused_name
from unfoldc.kernels.reading.boundaries import Boundaries
from unfoldc.kernels.reading.from_onnx import REPEATED
from unfoldc.kernels.reading.onnx_file import read_model
from unfoldc.kernels.reading.onnx_metadata import read_metadata, without_iterates
from unfoldc.kernels.repetition import find_repetition
from unfoldc.kernels.split_onnx.opaque_nodes import (
    STANDARD,
    captured_names,
    constant_of,
    is_random,
    opaque_node,
    reserved,
)
from unfoldc.kernels.split_onnx.open_model import bind_inputs, check_tensors, cut_model
from unfoldc.kernels.split_onnx.value_types import Infer, ValueType, array_of

_AGAIN = "Export it again."


@dataclass(frozen=True)
class OpaqueModel:
    """The program before rolling, the types with open lengths by name, and the file's frame for printing.

    `batch_name` is the name of the open batch axis, None without one. `random` holds the values that differ each time.
    """

    program: Program
    types: Mapping[str, ValueType]
    frame: onnx.ModelProto
    batch_name: str | None
    boundaries: str
    metadata: Mapping[str, Any]
    input_names: tuple[str, ...]
    random: frozenset[str]


def read_opaque(path: Path | str, dimensions: Mapping[str, int], infer: Infer) -> OpaqueModel:
    """Reads a model; infer() finds its types. Raises ModelError for what is damaged or not bound."""
    where = str(path)
    model = read_model(Path(path))
    check_tensors(model, where)
    if model.graph.sparse_initializer:
        raise ModelError(where, "the model stores sparse tensors", "dense tensors", "Export it without them.")
    metadata = read_metadata(model)
    wanted = without_iterates([o.name for o in model.graph.output], metadata)
    if len(set(wanted)) < len(wanted) or not all(wanted):
        raise ModelError(where, "two outputs have one name, or one has none", "a name for each output", _AGAIN)
    batch_name = bind_inputs(model, dimensions, where)
    model, boundaries = cut_model(model)
    try:
        types = dict(infer(model))
    except UnfoldcError:
        raise
    except Exception as error:  # whatever a checker or a runtime raises, it speaks of the file
        found = f"it is no sound model, or an operator is missing here ({_first_line(error)})"
        do = "Check it with onnx.checker, and that the installed ONNX Runtime has its operators."
        raise ModelError(where, found, "a model that ONNX Runtime runs", do) from None
    reader = _Reader(where, model, types)
    return reader.read(boundaries, wanted, batch_name, metadata)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass
class _Reader:
    where: str
    model: onnx.ModelProto
    types: dict[str, ValueType]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    random: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)

    def read(
        self, boundaries: Boundaries, wanted: Sequence[str], batch_name: str | None, metadata: Mapping[str, Any]
    ) -> OpaqueModel:
        graph = self.model.graph
        inputs = tuple(self.new(v.name) for v in graph.input)
        nodes: list[tuple[Node, int | None]] = []
        for tensor in graph.initializer:
            name = self.new(tensor.name)
            value = array_of(tensor)
            if value is None:  # NumPy has no such elements: a node makes it
                nodes.append((self.opaque(_constant_node(tensor), "constant", None), None))
            else:
                self.constants[name] = value
        for position, (proto, label) in enumerate(zip(graph.node, boundaries.labels, strict=True)):
            node = self.node(proto, position, label)
            if node is not None:
                nodes.append((node, label))
        for name in wanted:
            if self.name(name) not in self.made:
                raise ModelError(f"{self.where}: output {name!r}", "nothing makes it", "an output of a node", _AGAIN)
        results = tuple(self.name(name) for name in wanted)
        nodes, types = alive(nodes, results), self.stand_ins(nodes)
        source = boundaries.source
        if all(label is None for _, label in nodes):
            labels = find_repetition([node for node, _ in nodes], types, results)
            if any(label is not None for label in labels):
                source = REPEATED
                nodes = [(_labelled(node, k), k) for (node, _), k in zip(nodes, labels, strict=True)]
        program = self.program(nodes, types, inputs, results)
        return OpaqueModel(
            program=replace(program, output_names=tuple(wanted), guessed=source == REPEATED),
            types={self.name(k): v for k, v in self.types.items()} | self.constant_types(),
            frame=_frame(self.model),
            batch_name=batch_name,
            boundaries=source,
            metadata=metadata,
            input_names=tuple(v.name for v in graph.input),
            random=frozenset(self.random),
        )

    def constant_types(self) -> dict[str, ValueType]:
        return {name: ValueType(value.dtype.name, value.shape) for name, value in self.constants.items()}

    def name(self, value: str) -> str:
        return self.alias.get(value, value)

    def new(self, name: str) -> str:
        """The program's name of a new value of the graph."""
        if not name or name in self.made or name in self.alias:
            found = f"the value {name!r} is made a second time" if name else "a value has no name"
            raise ModelError(self.where, found, "a name of its own for each value", _AGAIN)
        if reserved(name):
            own = unused_name(f"value {name}", {*self.types, *self.made})
            self.alias[name] = own
            name = own
        self.made.add(name)
        return name

    def node(self, proto: onnx.NodeProto, position: int, label: int | None) -> Node | None:
        """The node, or None for one that holds a constant or only renames a value."""
        place = proto.name or f"node {position}"
        for name in (*proto.input, *captured_names(proto)):
            if name and self.name(name) not in self.made:
                found = f"it reads {name!r}, which nothing before it makes"
                raise ModelError(f"{self.where}: {place} ({proto.op_type})", found, "values made earlier", _AGAIN)
        tensor = constant_of(proto)
        value = None if tensor is None else array_of(tensor)
        if value is not None:
            self.constants[self.new(proto.output[0])] = value
            return None
        if self.renames(proto, place):
            self.alias[proto.output[0]] = self.name(proto.input[0])
            return None
        return self.opaque(proto, place, label)

    def opaque(self, proto: onnx.NodeProto, place: str, label: int | None) -> Node:
        if not any(proto.output):
            raise ModelError(f"{self.where}: {place}", "it has no results", "a node with results", _AGAIN)
        copy = onnx.NodeProto()
        copy.CopyFrom(proto)
        copy.output[:] = [self.new(o) if o else "" for o in proto.output]
        node = opaque_node(copy, self.name, self.inner_constant, Origin(place, proto.op_type, label))
        if is_random(proto, self.model.functions) or any(i in self.random for i in node.inputs):
            self.random.update(node.outputs)
        return node

    def renames(self, proto: onnx.NodeProto, place: str) -> bool:
        """Whether the node hands on its input as it is. Raises ModelError for one that drops values at random."""
        if proto.domain not in STANDARD:
            return False
        if proto.op_type == "Dropout":
            training = (
                self.constants.get(self.name(proto.input[2])) if len(proto.input) > 2 and proto.input[2] else None
            )
            if len(proto.input) > 2 and proto.input[2] and (training is None or training.any()):
                raise ModelError(
                    f"{self.where}: {place}",
                    "it drops values at random",
                    "a solver for use",
                    "Export in evaluation mode.",
                )
            return not any(proto.output[1:])
        return proto.op_type == "Identity" and bool(self.types.get(proto.input[0], ValueType("", None)).dtype)

    def inner_constant(self, tensor: onnx.TensorProto) -> str | None:
        """Takes in a constant of an inner graph."""
        value = array_of(tensor)
        if value is None:
            return None
        name = unused_name(f"{tensor.name or 'constant'} (inner)", {*self.types, *self.made})
        self.constants[self.new(name)] = value
        return name

    def stand_ins(self, nodes: Sequence[tuple[Node, int | None]]) -> dict[str, TensorType]:
        """The types by which layers are compared."""
        types = {name: t.stand_in() for name, t in self.types.items()}
        for node, _ in nodes:
            for o in node.outputs:
                types.setdefault(o, TensorType("unknown", ()))
        types.update({self.name(name): types[name] for name in self.alias if name in types})
        types.update({name: TensorType(value.dtype.name, value.shape) for name, value in self.constants.items()})
        return types

    def program(
        self,
        nodes: Sequence[tuple[Node, int | None]],
        types: Mapping[str, TensorType],
        inputs: tuple[str, ...],
        results: tuple[str, ...],
    ) -> Program:
        begin, layers, end = split_into_parts(nodes)
        begin = [self.distinct(node, position) for position, node in enumerate(begin)]
        used = {i for n in (*begin, *(n for layer in layers for n in layer), *end) for i in n.inputs} | set(results)
        return Program(
            inputs=inputs,
            outputs=results,
            types=types,
            constants={k: v for k, v in self.constants.items() if k in used},
            begin=tuple(begin),
            segments=tuple(Segment(k, 1, tuple(layer)) for k, layer in enumerate(layers)),
            end=tuple(end),
        )

    def distinct(self, node: Node, position: int) -> Node:
        """Marks a node of `begin` that no other may stand for: a random one, or one with several results."""
        if len(node.outputs) == 1 and node.outputs[0] not in self.random:
            return node
        return replace(node, attributes={**node.attributes, "position": position})


def _labelled(node: Node, label: int | None) -> Node:
    return replace(node, origin=replace(node.origin, iteration=label))


def _constant_node(tensor: onnx.TensorProto) -> onnx.NodeProto:
    return onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)


def _frame(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its graph: operator sets and functions."""
    frame = onnx.ModelProto()
    frame.ir_version = model.ir_version
    frame.opset_import.extend(model.opset_import)
    frame.functions.extend(model.functions)
    return frame
