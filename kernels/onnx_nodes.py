"""ONNX inputs and nodes, one by one, to those of a `Program`: types found, renamings and shape arithmetic folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx

from unfoldc.errors import ModelError
from unfoldc.kernels.control_flow import CONTROL_FLOW, Inner, inline_function
from unfoldc.kernels.expansions import EXPANSIONS, Call
from unfoldc.kernels.onnx_file import ELEMENT_TYPES, attributes_of, check_numbers
from unfoldc.kernels.onnx_signature import mismatch
from unfoldc.kernels.operators import INTERNAL_OPERATORS, OPERATORS, result_types
from unfoldc.kernels.program import Node, Origin, TensorType, unused_name

# Operators that import itself carries out.
IMPORT_ONLY = ("CastLike", "Constant", "Dropout", "Identity")
_LARGEST_FOLD = 2**20
_LARGEST_VALUE = 2**28
_MOST_DERIVED = 2**27
_AGAIN = "Check the export."


@dataclass
class NodeImporter:
    """Collects types and constants while it goes through a graph. `alias` leads from a renamed value to its source."""

    where: str
    opset: int
    dimensions: Mapping[str, int]
    batch_size: int
    batch_name: str | None = None
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    batched: set[str] = field(default_factory=set)
    functions: dict[tuple[str, str], onnx.FunctionProto] = field(default_factory=dict)
    scopes: list[dict[str, str]] = field(default_factory=list)
    prefix: str = ""
    node_count: int = 0
    main_loop: str = ""
    derived: set[str] = field(default_factory=set)
    derived_size: int = 0

    def fail(self, place: str, found: str, allowed: str, do: str) -> ModelError:
        """The error to raise, with the file in front of the place."""
        return ModelError(f"{self.where}: {place}" if place else self.where, found, allowed, do)

    def name(self, value: str) -> str:
        """The value that stands behind a name, which a graph inside another may have given its own meaning."""
        for scope in reversed(self.scopes):
            if value in scope:
                value = scope[value]
                break
        while value in self.alias:
            value = self.alias[value]
        return value

    def define(self, value: str) -> str:
        """The name under which a new value of the graph at hand is known in the whole program."""
        if not self.scopes:
            return value
        self.scopes[-1][value] = unused_name(self.prefix + value, _Taken(self))
        return self.scopes[-1][value]

    def add_constant(self, name: str, value: np.ndarray, place: str) -> None:
        """Takes in an initializer or the result of a Constant."""
        self.new_name(name, place)
        self.constants[name] = value
        self.types[name] = TensorType(str(value.dtype), value.shape)

    def new_name(self, name: str, place: str) -> None:
        """Raises ModelError unless the name is free: in ONNX each value is made once."""
        if not name or name in self.types or name in self.alias:
            found = f"the value {name!r} is made a second time" if name else "a value has no name"
            raise self.fail(place, found, "a name of its own for each value", "Export it again.")

    # -- inputs ------------------------------------------------------------------------------------------------

    def read_inputs(self, graph: onnx.GraphProto) -> tuple[str, ...]:
        """Names of the graph's inputs; one that has an initializer is a constant, as old exporters write weights."""
        values = [v for v in graph.input if v.name not in self.constants]
        self.batch_name = _batch_name(values, self.dimensions)
        for value in values:
            place = f"input {value.name!r}"
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type") or tensor.elem_type not in ELEMENT_TYPES:
                allowed = f"tensors of {', '.join(ELEMENT_TYPES.values())}"
                raise self.fail(place, "its type is not supported", allowed, "Export it anew.")
            if not tensor.HasField("shape"):
                raise self.fail(place, "it has no shape", "a shape for each input", "Export it with shapes.")
            self.new_name(value.name, place)
            self.types[value.name] = TensorType(ELEMENT_TYPES[tensor.elem_type], self.shape(value, place))
            self.check_size(value.name, place)
        return tuple(v.name for v in values)

    def shape(self, value: onnx.ValueInfoProto, place: str) -> tuple[int, ...]:
        """The input's shape for the batch size at hand; raises ModelError for a dimension that nobody bound."""
        result = []
        for axis, d in enumerate(value.type.tensor_type.shape.dim):
            if d.HasField("dim_value"):
                if d.dim_value < 1:
                    raise self.fail(place, f"axis {axis} has length {d.dim_value}", "at least 1", _AGAIN)
                result.append(d.dim_value)
            elif d.dim_param and d.dim_param in self.dimensions:
                result.append(self.dimensions[d.dim_param])
            elif axis == 0 and d.dim_param == self.batch_name:
                result.append(self.batch_size)
                self.batched.add(value.name)
            else:
                raise self.fail(
                    place,
                    f"axis {axis} has the dynamic length {d.dim_param or '?'!r} that nobody bound",
                    "fixed lengths, but for a batch axis in front",
                    f"Give dimensions={{{d.dim_param or 'name'!r}: n}} to compile, or export with a fixed length.",
                )
        return tuple(result)

    def check_size(self, name: str, place: str) -> None:
        """Raises ModelError for a value too large to be meant."""
        t = self.types[name]
        if t.size > _LARGEST_VALUE:
            found = f"the value {name!r} of shape {list(t.shape)} has {t.size} elements"
            raise self.fail(place, found, f"at most {_LARGEST_VALUE}", "Check the shapes in the file.")

    # -- nodes -------------------------------------------------------------------------------------------------

    def nodes(self, proto: onnx.NodeProto, position: int, iteration: int | None) -> list[Node]:
        """The nodes that compute it: none where it was folded away or only renames a value, several if it expands."""
        label = self.prefix + (proto.name or f"node {position}")
        place = f"{label} ({proto.op_type})"
        function = self.functions.get((proto.domain, proto.op_type))
        if function is not None:
            return self.call(function, proto, label, place, iteration)
        self.check_known(proto, place)
        inputs = self.read(proto, place)
        wrong = mismatch(proto, self.opset, [self.types[i].dtype if i else None for i in inputs])
        if wrong:
            raise self.fail(place, wrong, "what ONNX defines for the operator", _AGAIN)
        if proto.op_type in CONTROL_FLOW:
            outputs = self.outputs(proto, place)
            return Inner(self, proto, inputs, outputs, label, place, iteration, label == self.main_loop).expand()
        attributes = attributes_of(proto, f"{self.where}: {place}")
        if proto.op_type == "Constant":
            self.add_constant(self.define(proto.output[0]), self.constant_value(attributes, place), place)
            return []
        outputs = self.outputs(proto, place)
        origin = Origin(label, proto.op_type, iteration)
        if proto.op_type in EXPANSIONS:
            return self.expand(Call(proto.op_type, inputs, outputs, attributes, self.opset), origin, place)
        if self.renames(proto, attributes, inputs, place):
            self.alias[outputs[0]] = inputs[0]
            return []
        if proto.op_type in ("Cast", "CastLike"):
            inputs = inputs[:1]
        operator = "Cast" if proto.op_type == "CastLike" else proto.op_type
        node = Node(operator, inputs, outputs[:1], attributes, origin)
        return [] if self.infer(node, place) else [node]

    def outputs(self, proto: onnx.NodeProto, place: str) -> tuple[str, ...]:
        """The names of the node's results; raises ModelError for one that is made already."""
        outputs = tuple(self.define(o) if o else "" for o in proto.output)
        for name in filter(None, outputs):
            self.new_name(name, place)
        return outputs

    def call(
        self, function: onnx.FunctionProto, proto: onnx.NodeProto, label: str, place: str, iteration: int | None
    ) -> list[Node]:
        """The nodes of a call of a model-local function."""
        call = Call(proto.op_type, self.read(proto, place), self.outputs(proto, place), {}, self.opset)
        nodes, results = inline_function(self, function, proto, call, label, iteration)
        self.alias.update({o: r for o, r in zip(call.outputs, results, strict=False) if o})
        return nodes

    def maker(self, call: Call, origin: Origin, place: str) -> tuple[_Expander, list[Node]]:
        """What makes nodes for one operator, and the list in which they are found."""
        maker = _Expander(self, call, origin, place)
        return maker, maker.made

    def read(self, proto: onnx.NodeProto, place: str) -> tuple[str, ...]:
        """The values that the node reads; raises ModelError for one that nothing before it makes."""
        inputs = tuple(self.name(i) for i in proto.input)
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        for name in inputs:
            if name and name not in self.types:
                found = f"it reads {name!r}, which nothing before it makes"
                raise self.fail(place, found, "values made earlier", "Export it again.")
        return inputs

    def expand(self, call: Call, origin: Origin, place: str) -> list[Node]:
        """The nodes of an operator that simpler ones express."""
        maker = _Expander(self, call, origin, place)
        try:
            results = EXPANSIONS[call.operator](maker, call)
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
            shapes = self.shapes(call.inputs)
            raise self.fail(place, f"its inputs {shapes} do not fit ({error})", "inputs that fit", _AGAIN) from None
        for wanted, made in zip(call.outputs, (*results, *[""] * len(call.outputs)), strict=False):
            if wanted and not made:
                raise self.fail(place, f"its result {wanted!r} is not supported", "its other results", _AGAIN)
            if wanted:
                self.alias[wanted] = made
        return maker.made

    def shapes(self, inputs: Sequence[str]) -> str:
        """Names, types and shapes of a node's inputs, for messages."""
        return ", ".join(f"{i!r} {self.types[i].dtype}{list(self.types[i].shape)}" for i in inputs if i)

    def check_known(self, proto: onnx.NodeProto, place: str) -> None:
        """Raises ModelError for an operator that the table does not hold."""
        if proto.domain not in ("", "ai.onnx") or proto.op_type not in known_operators():
            name = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            raise self.fail(
                place,
                f"the operator {name} is not known to the compiler",
                "the operators listed by `unfoldc inspect --operators`",
                "Write the step with those, or add the operator (CONTRIBUTING.md).",
            )

    def renames(self, proto: onnx.NodeProto, attributes: dict[str, Any], inputs: Sequence[str], place: str) -> bool:
        """Whether the node hands on its input as it is; for casts it notes the type in `attributes`."""
        if proto.op_type in ("Cast", "CastLike"):
            attributes["to"] = (
                self.types[inputs[1]].dtype if proto.op_type == "CastLike" else self.cast_type(attributes, place)
            )
            return bool(self.types[inputs[0]].dtype == attributes["to"])
        if proto.op_type == "Dropout" and len(inputs) > 2 and inputs[2]:
            training = self.constants.get(inputs[2])
            if training is None or training.any():
                raise self.fail(place, "it drops values at random", "a solver for use", "Export in evaluation mode.")
        return proto.op_type in ("Identity", "Dropout")

    def cast_type(self, attributes: Mapping[str, Any], place: str) -> str:
        """The NumPy name of the type that a Cast makes."""
        to = attributes["to"]
        if to not in ELEMENT_TYPES:
            allowed = ", ".join(ELEMENT_TYPES.values())
            raise self.fail(place, f"a cast to type number {to}", allowed, "Export in float32.")
        return ELEMENT_TYPES[to]

    def constant_value(self, attributes: Mapping[str, Any], place: str) -> np.ndarray:
        """The content of a Constant."""
        kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        if len(attributes) == 1:
            ((key, value),) = attributes.items()
            if key == "value":
                return np.asarray(value)
            if key in kinds:
                array = np.asarray(value, kinds[key])
                check_numbers(array, f"{self.where}: {place}")
                return array
        raise self.fail(place, f"it holds {', '.join(attributes) or 'nothing'}", "one tensor or number", _AGAIN)

    def infer(self, node: Node, place: str) -> bool:
        """Finds the result types; True if the node was shape arithmetic on constants and is folded."""
        operator = OPERATORS[node.operator]
        types = [self.types[i] if i else None for i in node.inputs]
        known = [self.constants.get(i) for i in node.inputs]
        for position in operator.constant_inputs:
            if position < len(node.inputs) and node.inputs[position] and known[position] is None:
                raise self.fail(
                    place,
                    f"input {position} ({node.inputs[position]!r}) decides a shape but is computed at run time",
                    "a constant",
                    "Export with fixed shapes.",
                )
        try:
            (result,) = result_types(operator, node.attributes, types, known)
            self.types[node.outputs[0]] = result
            self.check_size(node.outputs[0], place)
            if self.fold(node, known):
                return True
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
            found = f"its inputs {self.shapes(node.inputs)} do not fit ({error})"
            raise self.fail(place, found, "shapes that fit together", _AGAIN) from None
        self.check_run_time(node, place)
        self.check_derived(node, place)
        return False

    def check_derived(self, node: Node, place: str) -> None:
        """Raises ModelError where the compiler would fold constants into more memory than is meant."""
        if not all(i in self.constants or i in self.derived or not i for i in node.inputs):
            return
        self.derived.add(node.outputs[0])
        if OPERATORS[node.operator].kind != "view":
            self.derived_size += self.types[node.outputs[0]].size
        if self.derived_size > _MOST_DERIVED:
            found = f"what is computed from constants alone has {self.derived_size} elements by now"
            raise self.fail(place, found, f"at most {_MOST_DERIVED}", "Check the shapes in the file.")

    def fold(self, node: Node, known: list[np.ndarray | None]) -> bool:
        """Shape arithmetic is carried out here; weights are left alone, so that the layers stay alike."""
        if node.operator in ("Shape", "Size"):
            t = self.types[node.inputs[0]]
            known = [np.broadcast_to(np.zeros((), t.dtype), t.shape)]
        elif any(k is None for k, i in zip(known, node.inputs, strict=True) if i):
            return False
        result = self.types[node.outputs[0]]
        if result.dtype not in ("int64", "int32", "bool") or result.size > _LARGEST_FOLD:
            return False
        with np.errstate(all="ignore"):
            (value,) = OPERATORS[node.operator].evaluate(node.attributes, known)
        self.constants[node.outputs[0]] = np.array(value)
        return True

    def check_run_time(self, node: Node, place: str) -> None:
        """Raises ModelError for what cannot be computed on a device: empty values, some integer arithmetic."""
        operator = OPERATORS[node.operator]
        data = [i for p, i in enumerate(node.inputs) if i and p not in operator.constant_inputs]
        for name in (*data, *node.outputs):
            if self.types[name].size == 0:
                found = f"the value {name!r} of shape {list(self.types[name].shape)} has no elements"
                raise self.fail(place, found, "axes of length 1 and more", _AGAIN)
        if data and operator.run_types and self.types[data[0]].dtype not in operator.run_types:
            found = f"it works on {self.types[data[0]].dtype} at run time"
            raise self.fail(place, found, ", ".join(operator.run_types), "Cast to float32 before it.")


class _Expander:
    """Makes the nodes of one expansion. Implements `expansions.table.Maker`."""

    def __init__(self, importer: NodeImporter, call: Call, origin: Origin, place: str) -> None:
        self.importer, self.origin, self.place, self.opset = importer, origin, place, call.opset
        self.base = next(filter(None, call.outputs), "value")
        self.made: list[Node] = []
        self.count = 0

    def type(self, value: str) -> TensorType:
        return self.importer.types[value]

    def constant(self, value: str) -> np.ndarray | None:
        return self.importer.constants.get(value)

    def fresh(self) -> str:
        self.count += 1
        return unused_name(f"{self.base}.{self.count}", _Taken(self.importer))

    def tensor(self, value: np.ndarray) -> str:
        name = self.fresh()
        self.importer.add_constant(name, np.asarray(value), self.place)
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        if operator in EXPANSIONS:
            call = Call(operator, inputs, (self.fresh(),), attributes, self.opset)
            return EXPANSIONS[operator](self, call)[0]
        node = Node(operator, inputs, (self.fresh(),), attributes, self.origin)
        self.importer.new_name(node.outputs[0], self.place)
        if not self.importer.infer(node, self.place):
            self.made.append(node)
        return node.outputs[0]


class _Taken:
    """The names that a program has already."""

    def __init__(self, importer: NodeImporter) -> None:
        self.importer = importer

    def __contains__(self, name: object) -> bool:
        return name in self.importer.types or name in self.importer.alias


@cache
def known_operators() -> frozenset[str]:
    """The ONNX operators that a model may use."""
    return frozenset((*OPERATORS, *EXPANSIONS, *IMPORT_ONLY, *CONTROL_FLOW)) - INTERNAL_OPERATORS


def _batch_name(values: Sequence[onnx.ValueInfoProto], dimensions: Mapping[str, int]) -> str | None:
    """The dynamic length in front that is the batch: `batch` where there is one, else the first; None without any."""
    found = []
    for value in values:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value") and dims[0].dim_param not in dimensions:
            found.append(dims[0].dim_param)
    return "batch" if "batch" in found else found[0] if found else None
