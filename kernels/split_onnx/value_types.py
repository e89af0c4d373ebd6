"""Element types and shapes of a graph's values, lengths that are open kept by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx
from onnx import helper, numpy_helper

from unfoldc.kernels.program import TensorType

Dims = tuple[int | str | None, ...]


@dataclass(frozen=True)
class ValueType:
    """`dtype`: the NumPy name of the element type, "" for a value that is no tensor of numbers.

    `dims`: a number, the name of an open length, or None for an unknown one; None for an unknown number of axes.
    `seen` are the lengths that it had when the model was tried: likely, not certain.
    """

    dtype: str
    dims: Dims | None
    seen: Dims | None = None

    @property
    def expected(self) -> Dims | None:
        """The lengths that are certain, else those that were seen."""
        if self.dims is None or self.seen is None or len(self.dims) != len(self.seen):
            return self.seen if self.dims is None else self.dims
        return tuple(d if isinstance(d, int) or s is None else s for d, s in zip(self.dims, self.seen, strict=True))

    def for_batch(self, name: str | None, length: int) -> tuple[int, ...] | None:
        """The expected shape for that batch; None where it is not known before the model runs."""
        dims = self.expected
        if dims is None:
            return None
        shape = [length if d == name and name is not None else d for d in dims]
        return tuple(d for d in shape if isinstance(d, int)) if all(isinstance(d, int) for d in shape) else None

    def stand_in(self) -> TensorType:
        """The type by which layers are compared: open lengths count as 1."""
        dims = self.expected or ()
        return TensorType(self.dtype or "unknown", tuple(d if isinstance(d, int) else 1 for d in dims))


# Finds the types of all values of a model's graph.
Infer = Callable[[onnx.ModelProto], Mapping[str, ValueType]]
# Runs a model on these inputs; the outputs in order.
Evaluate = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Sequence[np.ndarray]]


def merged(types: Sequence[ValueType]) -> ValueType:
    """What is true of all: lengths that differ are unknown."""

    def both(a: Dims | None, b: Dims | None) -> Dims | None:
        if a is None or b is None or len(a) != len(b):
            return None
        return tuple(x if x == y else None for x, y in zip(a, b, strict=True))

    return ValueType(types[0].dtype, reduce(both, (t.dims for t in types)), reduce(both, (t.expected for t in types)))


def inferred_types(model: onnx.ModelProto) -> dict[str, ValueType]:
    """By ONNX's own inference, which knows the standard operators and model-local functions."""
    found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*found.input, *found.value_info, *found.output)
    types = {v.name: type_of(v.type) for v in values}
    for tensor in found.initializer:
        types[tensor.name] = ValueType(numpy_name(tensor.data_type), tuple(tensor.dims))
    return types


def evaluated(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """By ONNX's reference implementation: slow."""
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, dict(inputs))]


def type_of(proto: onnx.TypeProto) -> ValueType:
    """The type that an ONNX file states."""
    if not proto.HasField("tensor_type"):
        return ValueType("", None)
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return ValueType(numpy_name(tensor.elem_type), None)
    dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)
    return ValueType(numpy_name(tensor.elem_type), dims)


def numpy_name(element: int) -> str:
    """The NumPy name of an ONNX element type; "" for those that NumPy itself does not have."""
    try:
        dtype = helper.tensor_dtype_to_np_dtype(element)
    except KeyError:
        return ""
    return dtype.name if dtype.kind in "fiub" and dtype.name in np.sctypeDict else ""


def array_of(tensor: onnx.TensorProto) -> np.ndarray | None:
    """The tensor as an array; None for element types that NumPy does not have. Raises ValueError for damaged data."""
    if not numpy_name(tensor.data_type):
        return None
    try:
        value = np.array(numpy_helper.to_array(tensor))
    except Exception as error:  # damaged data show themselves in many ways
        raise ValueError(str(error)) from None
    if value.shape != tuple(tensor.dims):
        raise ValueError(f"{value.size} elements do not make the shape {list(tensor.dims)}")
    return value.view(np.uint8) != 0 if value.dtype == bool else value
