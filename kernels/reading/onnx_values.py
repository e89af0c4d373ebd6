"""The values of a model that is being read: their types, the constants, and shape arithmetic carried out at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unfoldc.errors import ModelError
from unfoldc.kernels.operators import OPERATORS, result_types
from unfoldc.kernels.program import Node, TensorType

_LARGEST_FOLD = 2**20
_LARGEST_VALUE = 2**28
_MOST_DERIVED = 2**27
_AGAIN = "Check the export."


@dataclass
class OnnxValues:
    """Types and constants by name. `alias` leads from a renamed value to its source.

    `derived` holds the nodes that depend on constants alone but are left for a pass to fold.
    """

    where: str
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, tuple[str, ...]] = field(default_factory=dict)
    derived: dict[str, Node] = field(default_factory=dict)
    derived_size: int = 0

    def fail(self, place: str, found: str, allowed: str, do: str) -> ModelError:
        """The error to raise, with the file in front of the place."""
        return ModelError(f"{self.where}: {place}" if place else self.where, found, allowed, do)

    def add_constant(self, name: str, value: np.ndarray, place: str) -> None:
        """Takes in an initializer or the result of a Constant."""
        self.new_name(name, place)
        self.constants[name] = value
        self.types[name] = TensorType(str(value.dtype), value.shape)

    def new_name(self, name: str, place: str) -> None:
        """Raises ModelError unless the name is free: in ONNX each value is made once."""
        if not name or name in self.types or name in self.alias or name in self.sequences:
            found = f"the value {name!r} is made a second time" if name else "a value has no name"
            raise self.fail(place, found, "a name of its own for each value", "Export it again.")

    def shapes(self, inputs: Sequence[str]) -> str:
        """Names, types and shapes of a node's inputs, for messages."""
        return ", ".join(f"{i!r} {self.types[i].dtype}{list(self.types[i].shape)}" for i in inputs if i)

    def check_size(self, name: str, place: str) -> None:
        """Raises ModelError for a value too large to be meant."""
        t = self.types[name]
        if t.size > _LARGEST_VALUE:
            found = f"the value {name!r} of shape {list(t.shape)} has {t.size} elements"
            raise self.fail(place, found, f"at most {_LARGEST_VALUE}", "Check the shapes in the file.")

    def infer(self, node: Node, place: str) -> bool:
        """Finds the result types; True if the node was shape arithmetic on constants and is folded."""
        operator = OPERATORS[node.operator]
        types = [self.types[i] if i else None for i in node.inputs]
        known = [self.constants.get(i) for i in node.inputs]
        for position in operator.constant_inputs:
            if position < len(node.inputs) and node.inputs[position] and known[position] is None:
                known[position] = self.derive(node.inputs[position])
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

    def derive(self, name: str) -> np.ndarray | None:
        """The content of a value that depends on constants alone and decides a shape; None if it does not."""
        if name in self.constants or name not in self.derived:
            return self.constants.get(name)
        node = self.derived[name]
        inputs = [self.derive(i) if i else None for i in node.inputs]
        with np.errstate(all="ignore"):
            (value,) = OPERATORS[node.operator].evaluate(node.attributes, inputs)
        self.constants[name] = np.array(value)
        return self.constants[name]

    def check_derived(self, node: Node, place: str) -> None:
        """Raises ModelError where the compiler would fold constants into more memory than is meant."""
        if not all(i in self.constants or i in self.derived or not i for i in node.inputs):
            return
        self.derived[node.outputs[0]] = node
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
