"""ONNX inputs and nodes, one by one, to those of a `Program`: types found, renamings and shape arithmetic folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx

from unfoldc.kernels.element_types import CONSTANT_TYPES, ELEMENT_TYPES
from unfoldc.kernels.expansions import EXPANSIONS, Call
from unfoldc.kernels.operators import INTERNAL_OPERATORS, OPERATORS
from unfoldc.kernels.program import Node, Origin, TensorType, unused_name
from unfoldc.kernels.reading.control_flow import CONTROL_FLOW, Inner, inline_function
from unfoldc.kernels.reading.onnx_file import attributes_of, check_numbers
from unfoldc.kernels.reading.onnx_inputs import InputValues
from unfoldc.kernels.reading.onnx_signature import mismatch
from unfoldc.kernels.reading.sequences import SEQUENCE_OPERATORS, carry_out

# Operators that import itself carries out.
IMPORT_ONLY = ("CastLike", "Constant", "Dropout", "Identity")
_AGAIN = "Check the export."


@dataclass
class NodeImporter(InputValues):
    """Goes through a graph node by node. `scopes` give names inside graphs and functions their meaning."""

    opset: int = 0
    functions: dict[tuple[str, str], onnx.FunctionProto] = field(default_factory=dict)
    scopes: list[dict[str, str]] = field(default_factory=list)
    prefix: str = ""
    node_count: int = 0
    main_loop: str = ""

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

    # -- nodes -------------------------------------------------------------------------------------------------

    def nodes(self, proto: onnx.NodeProto, position: int, iteration: int | None) -> list[Node]:
        """The nodes that compute it: none where it was folded away or only renames a value, several if it expands."""
        label = self.prefix + (proto.name or f"node {position}")
        place = f"{label} ({proto.op_type})"
        own = f"{proto.domain}.{proto.op_type}"
        if proto.domain and own in EXPANSIONS:
            return self.own(own, proto, Origin(label, proto.op_type, iteration), place)
        function = self.functions.get((proto.domain, proto.op_type))
        if function is not None:
            return self.call(function, proto, label, place, iteration)
        self.check_known(proto, place)
        if proto.op_type in SEQUENCE_OPERATORS:
            return self.sequence(proto, Origin(label, proto.op_type, iteration), place)
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

    def own(self, operator: str, proto: onnx.NodeProto, origin: Origin, place: str) -> list[Node]:
        """The nodes of an operator of another domain than ONNX's, such as `unfoldc.Cholesky`.

        Its name is its meaning. The file may carry a function of that name for other programs, or one with another
        body: the domain is ours, and the body is not looked at.
        """
        inputs, outputs = self.read(proto, place), self.outputs(proto, place)
        attributes = attributes_of(proto, f"{self.where}: {place}")
        return self.expand(Call(operator, inputs, outputs, attributes, self.opset), origin, place)

    def call(
        self, function: onnx.FunctionProto, proto: onnx.NodeProto, label: str, place: str, iteration: int | None
    ) -> list[Node]:
        """The nodes of a call of a model-local function."""
        call = Call(proto.op_type, self.read(proto, place), self.outputs(proto, place), {}, self.opset)
        nodes, results = inline_function(self, function, proto, call, label, iteration)
        self.alias.update({o: r for o, r in zip(call.outputs, results, strict=False) if o})
        return nodes

    def sequence(self, proto: onnx.NodeProto, origin: Origin, place: str) -> list[Node]:
        """The nodes of an operator on sequences, which exist only while the model is read."""
        inputs = tuple(self.name(i) for i in proto.input)
        for name in inputs:
            if name and name not in self.types and name not in self.sequences:
                found = f"it reads {name!r}, which nothing before it makes"
                raise self.fail(place, found, "values made earlier", "Export it again.")
        output = self.outputs(proto, place)[0]
        call = Call(proto.op_type, inputs, (output,), attributes_of(proto, f"{self.where}: {place}"), self.opset)
        maker, made = self.maker(call, origin, place)
        try:
            result = carry_out(maker, call, [self.sequences.get(i) for i in inputs])
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise self.fail(place, f"its inputs do not fit ({error})", "inputs that fit", _AGAIN) from None
        if isinstance(result, str):
            self.alias[output] = result
        else:
            self.sequences[output] = result
        return made

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

    def check_known(self, proto: onnx.NodeProto, place: str) -> None:
        """Raises ModelError for an operator that the table does not hold."""
        if proto.domain not in ("", "ai.onnx") or proto.op_type not in known_operators() or "." in proto.op_type:
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
        if to not in CONSTANT_TYPES:
            allowed = ", ".join(ELEMENT_TYPES.values())
            raise self.fail(place, f"a cast to type number {to}", allowed, "Export in float32.")
        return CONSTANT_TYPES[to]

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
    """The operators that a model may use; those of other domains than ONNX's have it in front, with a dot."""
    return frozenset((*OPERATORS, *EXPANSIONS, *IMPORT_ONLY, *CONTROL_FLOW, *SEQUENCE_OPERATORS)) - INTERNAL_OPERATORS
