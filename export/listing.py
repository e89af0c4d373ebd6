"""A traced model as a plain list of operations: what the other files of this package read and rewrite.

Differs from the exporter's graph in three ways: constants are not operations, markers are not operations, and an output
is the value that it shows rather than a value of that name. All classes are frozen; a step returns a new listing.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from unfoldc.errors import ExportError
from unfoldc.export.linear_algebra import DOMAIN
from unfoldc.export.subgraphs import canonical, captured

_SCOPES = "pkg.torch.onnx.name_scopes"
_FX_NODE = "pkg.torch.onnx.fx_node"
_MARKER = "torch.ops.unfoldc.iterate"


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. `reads` holds its inputs ("" for an absent one), then what its subgraphs read from outside.

    `captured` holds the names of the latter as they stand in `proto`. `group` is part of the name of a cloned
    operation.
    """

    kind: str
    attributes: bytes
    reads: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: tuple[str, ...]
    proto: onnx.NodeProto
    captured: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Marker:
    """A call of `unfoldc.iterate` in front of operation `at`, given `before`, returning `after` ("" if unread)."""

    at: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """Operations in the order in which the module ran them; `outputs[i]` is the value shown by output i.

    `types` holds what is known of the values' types. Names of values are those of the traced torch program.
    """

    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, onnx.TensorProto] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    types: Mapping[str, onnx.TypeProto] = field(default_factory=dict)
    markers: tuple[Marker, ...] = ()

    def producers(self) -> dict[str, int]:
        """The index of the operation that makes each value."""
        return {value: i for i, op in enumerate(self.ops) for value in op.outputs if value}

    def substitute(self, names: Mapping[str, str]) -> Listing:
        """Every reader of a key of `names` reads its value instead; chains are followed."""

        def final(name: str) -> str:
            while name in names:
                name = names[name]
            return name

        return replace(
            self,
            ops=tuple(replace(op, reads=tuple(map(final, op.reads))) for op in self.ops),
            outputs=tuple(map(final, self.outputs)),
            markers=tuple(replace(m, before=tuple(map(final, m.before))) for m in self.markers),
        )


def read_model(model: onnx.ModelProto, marker_names: Sequence[tuple[str, ...]] = ()) -> Listing:
    """The exporter's model as a listing. `marker_names` are the names given to each marker, in order.

    Raises:
        ExportError: an operator is not a standard one.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    parameters = frozenset(constants)
    ops: list[Op] = []
    types = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output) if v.HasField("type")}
    marks: dict[str, tuple[int, tuple[str, ...]]] = {}
    returned: dict[str, dict[int, str]] = {}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = constant_tensor(node)
        elif node.op_type == "SequenceConstruct" and _MARKER in node_property(node, _FX_NODE):
            marks[node.output[0]] = (len(ops), tuple(node.input))
        elif node.op_type == "SequenceAt" and node.input[0] in marks:
            index = int(numpy_helper.to_array(constants[node.input[1]]))
            returned.setdefault(node.input[0], {})[index] = node.output[0]
        else:
            ops.append(make_op(node))
    markers = tuple(
        Marker(at, before, tuple(returned.get(sequence, {}).get(j, "") for j in range(len(before))))
        for sequence, (at, before) in marks.items()
    )
    if len(marker_names) == len(markers):
        markers = tuple(replace(m, names=n) for m, n in zip(markers, marker_names, strict=True))
    inputs = tuple(v.name for v in graph.input)
    outputs = tuple(v.name for v in graph.output)
    return Listing(tuple(ops), inputs, outputs, constants, parameters, types, markers)


def make_op(node: onnx.NodeProto, group: str = "") -> Op:
    """A node as an operation.

    Raises:
        ExportError: its operator is not a standard one.
    """
    if node.domain not in ("", "ai.onnx", DOMAIN):
        raise ExportError(
            node.name,
            f"operator {node.op_type} of domain {node.domain}",
            "the standard operators of ONNX, which every ONNX tool reads",
            "Write this step of the module with ordinary torch operations.",
        )
    read_inside = captured(node)
    return Op(
        kind=node.op_type,
        attributes=canonical(node),
        reads=(*node.input, *read_inside),
        outputs=tuple(node.output),
        scope=_scope(node),
        proto=node,
        captured=read_inside,
        group=group,
    )


def node_property(node: onnx.NodeProto, key: str) -> str:
    """An entry of a node's notes, "" if there is none."""
    return next((p.value for p in node.metadata_props if p.key == key), "")


def _scope(node: onnx.NodeProto) -> tuple[str, ...]:
    """Paths of the modules around the node, outermost first; empty for the outer module's own code."""
    text = node_property(node, _SCOPES)
    paths = ast.literal_eval(text)[:-1] if text else []
    return tuple(path for path in paths if path and not path.startswith("_empty_nn_module_stack"))


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto:
    """What a Constant node holds."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    value: Any = onnx.helper.get_attribute_value(attribute)
    kinds = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    return numpy_helper.from_array(np.array(value, dtype=kinds.get(attribute.name, object)), node.output[0])
