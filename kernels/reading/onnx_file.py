"""Reads an ONNX file that nobody vouches for: no pickle, no path outside its folder, no name taken on trust."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, external_data_helper, numpy_helper

from unfoldc.errors import ModelError
from unfoldc.kernels.element_types import CONSTANT_TYPES, ELEMENT_TYPES

_LARGEST_FILE = 2**31
_AGAIN = "Export or copy it again."


def read_model(path: Path) -> onnx.ModelProto:
    """Parses the file and loads external data; raises ModelError for anything that is not a sound ONNX file."""
    where = str(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(_read(path, where))
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise ModelError(
            where, "this is not an ONNX file, or it is truncated", "a complete ONNX file", _AGAIN
        ) from None
    if not _is_text(model):
        raise ModelError(where, "a name in it is not text (UTF-8)", "a complete ONNX file", _AGAIN)
    if not model.HasField("graph") or not model.graph.output:
        raise ModelError(where, "the file holds no graph with outputs", "a complete ONNX file", _AGAIN)
    _load_external(model, path.parent, where)
    return model


def _read(path: Path, where: str) -> bytes:
    try:
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        data = path.read_bytes() if regular and status.st_size <= _LARGEST_FILE else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not one"
        raise ModelError(
            where, f"the file cannot be read ({reason})", "a readable .onnx file", "Check the path."
        ) from None
    if not regular:
        raise ModelError(where, "this is not a file", "a readable .onnx file", "Check the path.")
    if status.st_size > _LARGEST_FILE:
        raise ModelError(
            where, f"the file has {status.st_size} bytes", "at most 2 GiB", "Store the weights as external data."
        )
    return data


def _is_text(message: Message) -> bool:
    """Whether all text in the message is UTF-8; the parser hands over anything else as bytes."""
    for kind, value in message.ListFields():
        if kind.type == FieldDescriptor.TYPE_MESSAGE:
            if not all(map(_is_text, [value] if isinstance(value, Message) else value)):
                return False
        elif kind.type == FieldDescriptor.TYPE_STRING and (
            isinstance(value, bytes) or (not isinstance(value, str) and any(isinstance(v, bytes) for v in value))
        ):
            return False
    return True


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
        try:
            place = (root / name).resolve()
            outside = Path(name).is_absolute() or not place.is_relative_to(root)
            missing = not outside and not place.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
            outside, missing = False, True
        if outside:
            raise ModelError(
                where,
                f"the weights are said to lie in {name!r}, outside the model's folder",
                "files beside the model",
                "Do not use this file unless you trust it; then store its weights beside it.",
            )
        if missing:
            raise ModelError(
                where, f"the external data file {name!r} is missing", "a file beside the model", "Copy it there."
            )
    try:
        external_data_helper.load_external_data_for_model(model, str(root))
    except Exception as error:  # the helper raises many kinds; each means a damaged or hostile file
        raise ModelError(where, f"its external data cannot be read ({error})", "complete data files", _AGAIN) from None


def tensor_array(tensor: onnx.TensorProto, where: str) -> np.ndarray:
    """The tensor as an array; raises ModelError for an unsupported type, damaged data or NaN."""
    place = f"{where}: tensor {tensor.name!r}"
    if tensor.data_type not in CONSTANT_TYPES:
        name = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else "?"
        raise ModelError(
            place,
            f"its elements are of type {name}",
            ", ".join(ELEMENT_TYPES.values()),
            "Export the model in float32 or float64.",
        )
    dims = tuple(tensor.dims)
    try:
        value = np.array(numpy_helper.to_array(tensor))
        damage = "" if value.shape == dims else f"{value.size} elements do not make the shape {list(dims)}"
    except Exception as error:  # damaged raw_data shows itself in many ways
        value, damage = np.zeros(0), str(error)
    if damage:
        raise ModelError(place, f"its data are damaged ({damage})", "complete data", _AGAIN)
    if value.dtype == bool:
        value = value.view(np.uint8) != 0  # a byte of 2 would be a third truth value
    check_numbers(value, place)
    return value


def check_numbers(value: np.ndarray, place: str) -> None:
    """Raises ModelError where a constant holds NaN; infinite bounds are legitimate."""
    if value.dtype.kind == "f" and np.isnan(value).any():
        raise ModelError(
            place,
            f"{int(np.isnan(value).sum())} of {value.size} weights are NaN",
            "numbers",
            "Training diverged: load an earlier checkpoint and lower the learning rate.",
        )


def attributes_of(node: onnx.NodeProto, where: str) -> dict[str, Any]:
    """The node's attributes as Python values; raises ModelError for kinds that no supported operator uses."""
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        kind = attribute.type
        if kind == onnx.AttributeProto.TENSOR:
            result[attribute.name] = tensor_array(attribute.t, where)
        elif kind == onnx.AttributeProto.INT:
            result[attribute.name] = attribute.i
        elif kind == onnx.AttributeProto.FLOAT:
            result[attribute.name] = attribute.f
        elif kind == onnx.AttributeProto.INTS:
            result[attribute.name] = list(attribute.ints)
        elif kind == onnx.AttributeProto.FLOATS:
            result[attribute.name] = list(attribute.floats)
        elif kind == onnx.AttributeProto.STRING:
            result[attribute.name] = attribute.s.decode("utf-8", "replace")
        elif kind == onnx.AttributeProto.STRINGS:
            result[attribute.name] = [s.decode("utf-8", "replace") for s in attribute.strings]
        else:
            raise ModelError(
                where,
                f"attribute {attribute.name!r} holds a graph or another kind of value",
                "numbers, strings and tensors",
                "Export without control flow: a fixed number of iterations needs none.",
            )
        if kind in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS) and np.isnan(result[attribute.name]).any():
            raise ModelError(where, f"attribute {attribute.name!r} is NaN", "numbers", "Check the export.")
    return result
