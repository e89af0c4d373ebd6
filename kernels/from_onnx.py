"""ONNX file -> Program, one problem at a time: the batch axis is read as 1 and comes back as an outer loop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from unfoldc.errors import ModelError
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.boundaries import find_boundaries
from unfoldc.kernels.onnx_file import ELEMENT_TYPES, attributes_of, read_model, tensor_array
from unfoldc.kernels.operators import OPERATORS, result_types
from unfoldc.kernels.program import Node, Origin, Program, Segment, TensorType

SUPPORTED_OPSETS = range(13, 27)
_LARGEST_FOLD = 4096


@dataclass(frozen=True)
class ImportedModel:
    """A program of one problem, its ports as the caller sees them, and what the file says of itself."""

    program: Program
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batch: int | None
    boundaries: str
    metadata: Mapping[str, Any]


@dataclass
class _Importer:
    where: str
    dimensions: Mapping[str, int]
    batch_size: int
    batch_name: str = ""
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    batched: dict[str, bool] = field(default_factory=dict)

    def fail(self, place: str, found: str, allowed: str, do: str) -> ModelError:
        return ModelError(f"{self.where}: {place}" if place else self.where, found, allowed, do)

    def name(self, value: str) -> str:
        return self.alias.get(value, value)

    # -- inputs ------------------------------------------------------------------------------------------------

    def shape(self, value: onnx.ValueInfoProto) -> tuple[int, ...]:
        """The input's shape for the batch size at hand; raises ModelError for a dimension that nobody bound."""
        result = []
        for axis, d in enumerate(value.type.tensor_type.shape.dim):
            if d.HasField("dim_value"):
                if d.dim_value < 1:
                    raise self.fail(f"input {value.name!r}", f"axis {axis} has length {d.dim_value}", "at least 1", "")
                result.append(d.dim_value)
            elif d.dim_param in self.dimensions:
                result.append(self.dimensions[d.dim_param])
            elif axis == 0 and self.batch_name in ("", d.dim_param):
                self.batch_name = d.dim_param or "batch"
                result.append(self.batch_size)
                self.batched[value.name] = True
            else:
                raise self.fail(
                    f"input {value.name!r}",
                    f"axis {axis} has the dynamic length {d.dim_param or '?'!r} that nobody bound",
                    "fixed lengths, but for a batch axis in front",
                    f"Give dimensions={{{d.dim_param or 'name'!r}: n}} to compile, or export with a fixed length.",
                )
        return tuple(result)

    def read_inputs(self, graph: onnx.GraphProto) -> tuple[str, ...]:
        names = []
        for value in graph.input:
            if value.name in self.constants:
                continue
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type") or tensor.elem_type not in ELEMENT_TYPES:
                raise self.fail(
                    f"input {value.name!r}",
                    "its type is not supported",
                    ", ".join(ELEMENT_TYPES.values()),
                    "Export it anew.",
                )
            self.types[value.name] = TensorType(ELEMENT_TYPES[tensor.elem_type], self.shape(value))
            names.append(value.name)
        return tuple(names)

    # -- nodes -------------------------------------------------------------------------------------------------

    def node(self, proto: onnx.NodeProto, position: int, iteration: int | None) -> Node | None:
        """The node, or None where it was folded away or only renames a value."""
        label = proto.name or f"node {position}"
        place = f"{label} ({proto.op_type})"
        operator = self.operator_name(proto, place)
        attributes = attributes_of(proto, f"{self.where}: {place}")
        inputs = tuple(self.name(i) for i in proto.input)
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        for name in inputs:
            if name and name not in self.types:
                raise self.fail(
                    place,
                    f"it reads {name!r}, which nothing before it makes",
                    "values made earlier",
                    "Export it again.",
                )
        if operator == "Constant":
            self.add_constant(proto.output[0], _constant_value(attributes), place)
            return None
        if operator == "Cast":
            attributes["to"] = self.cast_type(attributes.get("to"), place)
        if operator == "CastLike":
            operator, attributes, inputs = "Cast", {"to": self.types[inputs[1]].dtype}, inputs[:1]
        if operator in ("Identity", "Dropout") or (
            operator == "Cast" and self.types[inputs[0]].dtype == attributes["to"]
        ):
            self.alias[proto.output[0]] = inputs[0]
            return None
        outputs = tuple(proto.output)
        node = Node(operator, inputs, outputs, attributes, Origin(label, proto.op_type, iteration))
        return None if self.infer(node, place) else node

    def operator_name(self, proto: onnx.NodeProto, place: str) -> str:
        known = proto.op_type in OPERATORS or proto.op_type in ("Constant", "CastLike", "Dropout")
        if proto.domain not in ("", "ai.onnx") or not known:
            name = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            raise self.fail(
                place,
                f"the operator {name} is not known to the compiler",
                "the operators listed by `unfoldc inspect --operators`",
                "Write the step with those, or add the operator (CONTRIBUTING.md).",
            )
        return proto.op_type

    def cast_type(self, to: Any, place: str) -> str:
        if to not in ELEMENT_TYPES:
            raise self.fail(
                place, f"a cast to type number {to}", ", ".join(ELEMENT_TYPES.values()), "Export in float32."
            )
        return ELEMENT_TYPES[to]

    def add_constant(self, name: str, value: np.ndarray, place: str) -> None:
        self.constants[name] = value
        self.types[name] = TensorType(str(value.dtype), value.shape)

    def infer(self, node: Node, place: str) -> bool:
        """Finds the result types; True if the node was a small integer computation on constants and is folded."""
        operator = OPERATORS[node.operator]
        types = [self.types[i] if i else None for i in node.inputs]
        known = [self.constants.get(i) for i in node.inputs]
        for position in operator.constant_inputs:
            if position < len(node.inputs) and node.inputs[position] and known[position] is None:
                if node.operator == "Gather":
                    continue
                raise self.fail(
                    place,
                    f"input {position} ({node.inputs[position]!r}) decides a shape but is computed at run time",
                    "a constant",
                    "Export with fixed shapes.",
                )
        try:
            results = result_types(operator, node.attributes, types, known)
        except (ValueError, IndexError, TypeError, KeyError, AssertionError) as error:
            shapes = ", ".join(f"{i!r} {t.dtype}{list(t.shape)}" for i, t in zip(node.inputs, types, strict=True) if t)
            raise self.fail(
                place, f"its inputs {shapes} do not fit ({error})", "shapes that ONNX allows", "Check the export."
            ) from None
        for name, result in zip(node.outputs, results, strict=False):
            self.types[name] = result
        return self.fold_integers(node, known)

    def fold_integers(self, node: Node, known: list[np.ndarray | None]) -> bool:
        """Shape arithmetic is carried out here; weights are left alone, so that the layers stay alike."""
        if node.operator == "Shape":
            known = [np.broadcast_to(np.zeros((), self.types[node.inputs[0]].dtype), self.types[node.inputs[0]].shape)]
        elif any(k is None for k, i in zip(known, node.inputs, strict=True) if i):
            return False
        result = self.types[node.outputs[0]]
        if result.dtype not in ("int64", "int32") or result.size > _LARGEST_FOLD:
            return False
        values = OPERATORS[node.operator].evaluate(node.attributes, known)
        self.constants.update(zip(node.outputs, values, strict=False))
        return True


def _constant_value(attributes: Mapping[str, Any]) -> np.ndarray:
    if "value" in attributes:
        return np.asarray(attributes["value"])
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for key, dtype in kinds.items():
        if key in attributes:
            return np.asarray(attributes[key], dtype)
    raise ValueError("Constant without a number")


def import_onnx(
    path: Path | str,
    *,
    batch: int | str | None = None,
    dimensions: Mapping[str, int] | None = None,
    batch_size: int = 1,
) -> ImportedModel:
    """Reads a model.

    batch: a number fixes the dynamic leading axis, None or "dynamic" leaves it to each call. dimensions binds other
    dynamic lengths by name. batch_size is the length at which the program's shapes are taken (1: one problem).
    Raises ModelError, which names the place in the file, for whatever is damaged, unknown or not bound.
    """
    path = Path(path)
    if isinstance(batch, bool) or not (batch in (None, "dynamic") or (isinstance(batch, int) and batch > 0)):
        raise ModelError(str(path), f"batch={batch!r}", 'a positive number, "dynamic" or None', "Change the option.")
    model = read_model(path)
    _check_opsets(model, str(path))
    importer = _Importer(str(path), dict(dimensions or {}), batch_size)
    graph = model.graph
    metadata = read_metadata(model)
    for tensor in graph.initializer:
        importer.add_constant(tensor.name, tensor_array(tensor, str(path)), "")
    if graph.sparse_initializer:
        raise ModelError(str(path), "the model stores sparse tensors", "dense tensors", "Export it without them.")
    inputs = importer.read_inputs(graph)
    dropped = {name for names in metadata.get("iterates", {}).values() for name in names}
    outputs = tuple(o.name for o in graph.output if o.name not in dropped)
    program = _build(importer, graph, inputs, outputs, metadata)
    ports_in = tuple(_port(importer, name, name, name in importer.batched) for name in inputs)
    any_batch = bool(importer.batched)
    ports_out = tuple(_port(importer, name, importer.name(name), any_batch) for name in outputs)
    fixed = batch if isinstance(batch, int) and any_batch else None
    return ImportedModel(program.program, ports_in, ports_out, fixed, program.source, metadata)


def read_metadata(model: onnx.ModelProto) -> dict[str, Any]:
    """What export_onnx wrote about the iterations; an empty dictionary where it is absent or not understood."""
    for entry in model.metadata_props:
        if entry.key == "unfoldc":
            try:
                found = json.loads(entry.value)
            except (json.JSONDecodeError, RecursionError):
                return {}
            if not isinstance(found, dict) or not isinstance(found.get("iterates", {}), dict):
                return {}
            return found
    return {}


def _check_opsets(model: onnx.ModelProto, where: str) -> None:
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version not in SUPPORTED_OPSETS:
            raise ModelError(
                where,
                f"it uses operator set {entry.version}",
                f"{SUPPORTED_OPSETS.start} to {SUPPORTED_OPSETS.stop - 1}",
                "Export it with one of those.",
            )


def _port(importer: _Importer, name: str, value: str, batched: bool) -> Port:
    t = importer.types[value]
    if batched and (not t.shape or t.shape[0] != importer.batch_size):
        raise importer.fail(
            f"output {name!r}",
            f"its shape {list(t.shape)} has no batch axis in front, but the inputs have",
            "one answer per problem",
            "Compile with dimensions={'batch': n} to fix the number of problems.",
        )
    return Port(name, t.dtype, t.shape[1:] if batched else t.shape, batched)


@dataclass(frozen=True)
class _Built:
    program: Program
    source: str


def _build(
    importer: _Importer,
    graph: onnx.GraphProto,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    metadata: Mapping[str, Any],
) -> _Built:
    initial = {t.name for t in graph.initializer} | {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    boundaries = find_boundaries(graph.node, dict.fromkeys(initial))
    nodes: list[tuple[Node, int | None]] = []
    for position, (proto, label) in enumerate(zip(graph.node, boundaries.labels, strict=True)):
        node = importer.node(proto, position, label)
        if node is not None:
            nodes.append((node, label))
    for name in outputs:
        if importer.name(name) not in importer.types:
            raise importer.fail(f"output {name!r}", "nothing makes it", "an output of a node", "Export it again.")
    results = tuple(importer.name(name) for name in outputs)
    nodes = _alive(nodes, results)
    begin, layers, end = _parts(nodes)
    program = Program(
        inputs=inputs,
        outputs=results,
        types=dict(importer.types),
        constants=dict(importer.constants),
        begin=tuple(begin),
        segments=tuple(Segment(k, 1, tuple(layer)) for k, layer in enumerate(layers)),
        end=tuple(end),
        output_names=outputs,
    )
    return _Built(_used_constants(program), boundaries.source)


def _parts(nodes: list[tuple[Node, int | None]]) -> tuple[list[Node], list[list[Node]], list[Node]]:
    """Splits the nodes; without any boundary the whole graph counts as one iteration."""
    count = 1 + max((label for _, label in nodes if label is not None), default=-1)
    if not count:
        return [], [[node for node, _ in nodes]], []
    begin: list[Node] = []
    end: list[Node] = []
    layers: list[list[Node]] = [[] for _ in range(count)]
    iterated: set[str] = set()
    for node, label in nodes:
        after = label is not None or any(i in iterated for i in node.inputs)
        if after:
            iterated.update(node.outputs)
        (layers[label] if label is not None else end if after else begin).append(node)
    return begin, layers, end


def _alive(nodes: list[tuple[Node, int | None]], outputs: tuple[str, ...]) -> list[tuple[Node, int | None]]:
    needed, kept = set(outputs), []
    for node, label in reversed(nodes):
        if any(o in needed for o in node.outputs):
            needed.update(node.inputs)
            kept.append((node, label))
    return kept[::-1]


def _used_constants(program: Program) -> Program:
    used = {i for n in program.nodes() for i in n.inputs} | set(program.outputs)
    return replace(program, constants={k: v for k, v in program.constants.items() if k in used})
