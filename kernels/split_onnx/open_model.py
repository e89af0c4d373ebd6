"""Before a model is cut: its tensors are checked, its open lengths bound, and its iterations found."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import external_data_helper, inliner

from unfoldc.errors import ModelError
from unfoldc.kernels.reading.boundaries import Boundaries, find_boundaries
from unfoldc.kernels.reading.onnx_file import check_numbers
from unfoldc.kernels.split_onnx.opaque_nodes import captured_names
from unfoldc.kernels.split_onnx.value_types import array_of, type_of


def check_tensors(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError for damaged tensors and for NaN, in inner graphs and functions too."""
    for tensor in external_data_helper._get_all_tensors(model):
        place = f"{where}: tensor {tensor.name!r}"
        try:
            value = array_of(tensor)
        except ValueError as error:
            raise ModelError(
                place, f"its data are damaged ({error})", "complete data", "Export or copy it again."
            ) from None
        if value is not None:
            check_numbers(value, place)


def bind_inputs(model: onnx.ModelProto, dimensions: Mapping[str, int], where: str) -> str | None:
    """Writes the lengths that `dimensions` binds into the inputs; returns the name of the batch axis.

    Raises ModelError for an input that is no array of numbers, and for a length that nobody bound.
    """
    constants = {t.name for t in model.graph.initializer}
    for position in reversed(range(len(model.graph.input))):  # old exporters list the weights among the inputs
        if model.graph.input[position].name in constants:
            del model.graph.input[position]
    for value in model.graph.input:
        for d in value.type.tensor_type.shape.dim:
            if not d.HasField("dim_value") and d.dim_param in dimensions:
                d.dim_value = dimensions[d.dim_param]
    first = [v.type.tensor_type.shape.dim[0] for v in model.graph.input if v.type.tensor_type.shape.dim]
    fronts = [d for d in first if not d.HasField("dim_value")]
    names = [d.dim_param for d in fronts]
    chosen = "batch" if "batch" in names else names[0] if names else None
    for d in fronts:
        if d.dim_param == chosen:
            d.dim_param = chosen or "batch"
    for value in model.graph.input:
        _check_input(value, chosen or "batch", f"{where}: input {value.name!r}")
    return None if chosen is None else chosen or "batch"


def _check_input(value: onnx.ValueInfoProto, batch_name: str, place: str) -> None:
    if not value.type.tensor_type.HasField("shape") or not type_of(value.type).dtype:
        raise ModelError(place, "it has no shape or no type of NumPy's", "tensors of known rank", "Export it anew.")
    for axis, d in enumerate(value.type.tensor_type.shape.dim):
        if not d.HasField("dim_value") and (axis or d.dim_param != batch_name):
            raise ModelError(
                place,
                f"axis {axis} has the dynamic length {d.dim_param or '?'!r} that nobody bound",
                "fixed lengths, but for a batch axis in front",
                f"Give dimensions={{{d.dim_param or 'name'!r}: n}} to compile, or export with a fixed length.",
            )
        if d.HasField("dim_value") and d.dim_value < 1:
            raise ModelError(place, f"axis {axis} has length {d.dim_value}", "at least 1", "Check the export.")


def cut_model(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Boundaries]:
    """The boundaries; functions are replaced by their bodies where the iterations lie inside of them."""
    boundaries = _boundaries(model)
    if not model.functions or any(label is not None for label in boundaries.labels):
        return model, boundaries
    try:
        flat = inliner.inline_local_functions(model)
    except Exception:  # it does not know every function; calls to those stay
        return model, boundaries
    found = _boundaries(flat)
    return (flat, found) if any(label is not None for label in found.labels) else (model, boundaries)


def _boundaries(model: onnx.ModelProto) -> Boundaries:
    nodes = []
    for proto in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(proto)
        copy.input.extend(captured_names(proto))  # data flow through inner graphs counts too
        nodes.append(copy)
    return find_boundaries(nodes)
