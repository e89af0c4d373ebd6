"""Element types: ONNX numbers and the NumPy names that stand for them everywhere else."""

from __future__ import annotations

from onnx import TensorProto

ELEMENT_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
}
# Exporters also write these, in constants that decide something else.
CONSTANT_TYPES = {**ELEMENT_TYPES, TensorProto.UINT8: "uint8"}
