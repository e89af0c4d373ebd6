"""The table of expansions: ONNX operators that are expressed by simpler ones when a model is read.

An expansion gets one ONNX node (`Call`) and makes nodes of the operator table, or calls further expansions, through a
`Maker`. It returns the values that stand for the node's results. Shapes are known, so that it may look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from unfoldc.kernels.program import TensorType


@dataclass(frozen=True)
class Call:
    """One ONNX node: an input that is left out is the empty string, as is a result that nobody wants."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def input(self, i: int) -> str:
        """Input `i`, or the empty string."""
        return self.inputs[i] if i < len(self.inputs) else ""

    def wants(self, i: int) -> bool:
        """Whether anybody may read result `i`."""
        return i < len(self.outputs) and bool(self.outputs[i])


class Maker(Protocol):
    """What an expansion may ask of the import."""

    def type(self, value: str) -> TensorType:
        """Element type and shape of a value."""
        ...

    def constant(self, value: str) -> np.ndarray | None:
        """The content of a value that is known when the model is read, else None."""
        ...

    def tensor(self, value: np.ndarray) -> str:
        """A new constant."""
        ...

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The (first) result of a new node: of the operator table, or of an ONNX operator that has an expansion."""
        ...


Expansion = Callable[[Maker, Call], tuple[str, ...]]
EXPANSIONS: dict[str, Expansion] = {}


def expands(*operators: str) -> Callable[[Expansion], Expansion]:
    """Registers the decorated function for these ONNX operators; a second one for the same operator is a mistake.

    The function returns one value for each result of the node, in order; later ones that nobody wants may be left out.
    It raises ValueError, whose text says what does not fit, for a node that is wrong or that no device can compute.
    """

    def register(function: Expansion) -> Expansion:
        for operator in operators:
            if operator in EXPANSIONS:
                raise ValueError(f"operator {operator} is expanded twice")
            EXPANSIONS[operator] = function
        return function

    return register


def constant(maker: Maker, call: Call, i: int) -> np.ndarray | None:
    """The content of input `i`, None where it is left out; raises ValueError where it is computed at run time."""
    name = call.input(i)
    if not name:
        return None
    value = maker.constant(name)
    if value is None:
        raise ValueError(f"input {i} ({name!r}) must be a constant")
    return value


def axis_of(call: Call, rank: int, default: int, attribute: str = "axis") -> int:
    """The attribute as an axis from 0 to rank - 1; raises ValueError for one that is not there."""
    axis = int(call.attributes.get(attribute, default))
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a value with {rank} axes")
    return axis % rank
