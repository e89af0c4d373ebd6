"""The inputs of an ONNX graph: their types for the batch size at hand, and which of them hold a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from unfoldc.kernels.element_types import ELEMENT_TYPES
from unfoldc.kernels.program import TensorType
from unfoldc.kernels.reading.onnx_values import OnnxValues

_AGAIN = "Check the export."


@dataclass
class InputValues(OnnxValues):
    """Values with what decides the inputs' shapes: `dimensions` by name, and the length of the batch axis."""

    dimensions: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 1
    batch_name: str | None = None
    batched: set[str] = field(default_factory=set)


def read_inputs(model: InputValues, graph: onnx.GraphProto) -> tuple[str, ...]:
    """Names of the graph's inputs; one that has an initializer is a constant, as old exporters write weights."""
    values = [v for v in graph.input if v.name not in model.constants]
    model.batch_name = _batch_name(values, model.dimensions)
    for value in values:
        place = f"input {value.name!r}"
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor.elem_type not in ELEMENT_TYPES:
            allowed = f"tensors of {', '.join(ELEMENT_TYPES.values())}"
            raise model.fail(place, "its type is not supported", allowed, "Export it anew.")
        if not tensor.HasField("shape"):
            raise model.fail(place, "it has no shape", "a shape for each input", "Export it with shapes.")
        model.new_name(value.name, place)
        model.types[value.name] = TensorType(ELEMENT_TYPES[tensor.elem_type], _shape(model, value, place))
        model.check_size(value.name, place)
    return tuple(v.name for v in values)


def _shape(model: InputValues, value: onnx.ValueInfoProto, place: str) -> tuple[int, ...]:
    """The input's shape for the batch size at hand; raises ModelError for a dimension that nobody bound."""
    result = []
    for axis, d in enumerate(value.type.tensor_type.shape.dim):
        if d.HasField("dim_value"):
            if d.dim_value < 1:
                raise model.fail(place, f"axis {axis} has length {d.dim_value}", "at least 1", _AGAIN)
            result.append(d.dim_value)
        elif d.dim_param and d.dim_param in model.dimensions:
            result.append(model.dimensions[d.dim_param])
        elif axis == 0 and d.dim_param == model.batch_name:
            result.append(model.batch_size)
            model.batched.add(value.name)
        else:
            raise model.fail(
                place,
                f"axis {axis} has the dynamic length {d.dim_param or '?'!r} that nobody bound",
                "fixed lengths, but for a batch axis in front",
                f"Give dimensions={{{d.dim_param or 'name'!r}: n}} to compile, or export with a fixed length.",
            )
    return tuple(result)


def _batch_name(values: Sequence[onnx.ValueInfoProto], dimensions: Mapping[str, int]) -> str | None:
    """The dynamic length in front that is the batch: `batch` where there is one, else the first; None without any."""
    found = []
    for value in values:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value") and dims[0].dim_param not in dimensions:
            found.append(dims[0].dim_param)
    return "batch" if "batch" in found else found[0] if found else None
