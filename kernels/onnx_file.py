"""Reads an ONNX file that nobody vouches for: no pickle, no path outside its folder, no name taken on trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from unfoldc.errors import ModelError

ELEMENT_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
}
_LARGEST_FILE = 2**31


def read_model(path: Path) -> onnx.ModelProto:
    """Parses the file and loads external data; raises ModelError for anything that is not a sound ONNX file."""
    where = str(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _LARGEST_FILE else b""
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ModelError(
            where, f"the file cannot be read ({reason})", "a readable .onnx file", "Check the path."
        ) from None
    if size > _LARGEST_FILE:
        raise ModelError(where, f"the file has {size} bytes", "at most 2 GiB", "Store the weights as external data.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise ModelError(
            where, "this is not an ONNX file, or it is truncated", "a complete ONNX file", "Export or copy it again."
        ) from None
    if not model.HasField("graph") or not model.graph.output:
        raise ModelError(
            where, "the file holds no graph with outputs", "a complete ONNX file", "Export or copy it again."
        )
    _load_external(model, path.parent, where)
    return model


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the external data files, as the model gives them."""
    names: set[str] = set()
    for tensor in external_data_helper._get_all_tensors(model):
        if external_data_helper.uses_external_data(tensor):
            names.update(e.value for e in tensor.external_data if e.key == "location")
    return sorted(names)


def _load_external(model: onnx.ModelProto, folder: Path, where: str) -> None:
    root = folder.resolve()
    for name in external_files(model):
        place = (root / name).resolve()
        if Path(name).is_absolute() or not place.is_relative_to(root):
            raise ModelError(
                where,
                f"the weights are said to lie in {name!r}, outside the model's folder",
                "files beside the model",
                "Do not use this file unless you trust it; then store its weights beside it.",
            )
        if not place.is_file():
            raise ModelError(
                where, f"the external data file {name!r} is missing", "a file beside the model", "Copy it there."
            )
    try:
        external_data_helper.load_external_data_for_model(model, str(root))
    except Exception as error:  # the helper raises many kinds; each means a damaged or hostile file
        raise ModelError(
            where, f"its external data cannot be read ({error})", "complete data files", "Export or copy it again."
        ) from None


def tensor_array(tensor: onnx.TensorProto, where: str) -> np.ndarray:
    """The tensor as an array; raises ModelError for an unsupported type, damaged data, NaN or infinite weights."""
    if tensor.data_type not in ELEMENT_TYPES:
        name = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else "?"
        raise ModelError(
            f"{where}: tensor {tensor.name!r}",
            f"its elements are of type {name}",
            ", ".join(ELEMENT_TYPES.values()),
            "Export the model in float32 or float64.",
        )
    try:
        value = np.array(numpy_helper.to_array(tensor))
    except Exception as error:  # damaged raw_data shows itself in many ways
        raise ModelError(
            f"{where}: tensor {tensor.name!r}", f"its data are damaged ({error})", "complete data", "Export it again."
        ) from None
    if value.dtype.kind == "f" and np.isnan(value).any():
        raise ModelError(
            f"{where}: tensor {tensor.name!r}",
            f"{int(np.isnan(value).sum())} of {value.size} weights are NaN",
            "numbers",
            "Training diverged: load an earlier checkpoint and lower the learning rate.",
        )
    return value


def attributes_of(node: onnx.NodeProto, where: str) -> dict[str, Any]:
    """The node's attributes as Python values; raises ModelError for kinds that no supported operator uses."""
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        kind = attribute.type
        if kind == onnx.AttributeProto.TENSOR:
            result[attribute.name] = tensor_array(attribute.t, where)
        elif kind in (
            onnx.AttributeProto.INT,
            onnx.AttributeProto.FLOAT,
            onnx.AttributeProto.INTS,
            onnx.AttributeProto.FLOATS,
        ):
            value = onnx.helper.get_attribute_value(attribute)
            result[attribute.name] = list(value) if attribute.name and isinstance(value, list | tuple) else value
        elif kind == onnx.AttributeProto.STRING:
            result[attribute.name] = attribute.s.decode("utf-8", "replace")
        else:
            raise ModelError(
                where,
                f"attribute {attribute.name!r} holds a graph or another kind of value",
                "numbers, strings and tensors",
                "Export without control flow: a fixed number of iterations needs none.",
            )
    return result
