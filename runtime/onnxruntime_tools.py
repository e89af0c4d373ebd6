"""What ONNX Runtime does while a model is split: it finds all types, evaluates constants, and tries the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from unfoldc.errors import ToolError
from unfoldc.kernels.reading.onnx_file import read_model
from unfoldc.kernels.split_onnx.artifact import Tools
from unfoldc.kernels.split_onnx.read import OpaqueModel
from unfoldc.kernels.split_onnx.split import Split
from unfoldc.kernels.split_onnx.value_types import Dims, ValueType, numpy_name, type_of
from unfoldc.runtime.onnxruntime_sessions import CPU, first_line, new_session
from unfoldc.runtime.split_runner import SplitRunner

# ONNX Runtime's names of element types that are not NumPy's.
_NAMES = {"float": "float32", "double": "float64"}
_NEWEST_IR = 10
# Without optimisation both sides compute the same operations: nearly all bits agree.
_TOLERANCE = {"float16": 1e-2, "float32": 1e-4}
# Lengths at which a model is tried.
_BATCHES = (3, 5)


def split_tools() -> Tools:
    """The tools for `compile_split`."""
    return Tools(inferred_types, evaluated, disagreement)


def inferred_types(model: onnx.ModelProto) -> dict[str, ValueType]:
    """The types of all values, by loading the model with each of them as an output; what it refuses, it says itself."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    wanted = [o.name for o in model.graph.output]
    made = dict.fromkeys(o for node in model.graph.node for o in node.output if o)
    del bare.graph.output[:]
    bare.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in made)
    session = new_session(_bytes(bare), [CPU], optimise=False)
    types = {v.name: _type(v) for v in session.get_outputs()}
    types |= {v.name: type_of(v.type) for v in model.graph.input}
    for tensor in model.graph.initializer:
        types[tensor.name] = ValueType(numpy_name(tensor.data_type), tuple(tensor.dims))
    for name in wanted:
        types[name] = _stated(model, name, types.get(name))
    if all(t.for_batch(batch_name(model), 1) is not None for t in types.values() if t.dtype):
        return types
    return {name: replace(t, seen=seen) for (name, t), seen in zip(types.items(), _seen(session, types), strict=True)}


def batch_name(model: onnx.ModelProto) -> str | None:
    """The name of the length that the inputs leave open."""
    dims = (d for v in model.graph.input for d in v.type.tensor_type.shape.dim)
    return next((d.dim_param for d in dims if d.dim_param), None)


def _seen(session: Any, types: Mapping[str, ValueType]) -> list[Dims | None]:
    """The shapes of all values when the model solves random problems; a length that follows the batch by its name."""
    inputs = {v.name: types[v.name] for v in session.get_inputs()}
    name = next((d for t in inputs.values() for d in t.dims or () if isinstance(d, str)), None)
    outputs = [o.name for o in session.get_outputs() if types[o.name].dtype]
    try:
        runs = [
            dict(zip(outputs, session.run(outputs, {n: _problem(t, name, b) for n, t in inputs.items()}), strict=True))
            for b in _BATCHES
        ]
    except Exception:  # random numbers may not be what its operators take
        return [t.seen for t in types.values()]
    return [_common([run[n].shape for run in runs], name) if n in runs[0] else types[n].dims for n in types]


def _common(shapes: Sequence[tuple[int, ...]], name: str | None) -> Dims | None:
    if len({len(s) for s in shapes}) > 1:
        return None
    return tuple(
        lengths[0] if len(set(lengths)) == 1 else name if lengths == _BATCHES else None
        for lengths in zip(*shapes, strict=True)
    )


def evaluated(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
    """The outputs of a model without a batch."""
    outputs: Sequence[np.ndarray] = new_session(_bytes(model), [CPU]).run(None, dict(inputs))
    return outputs


def disagreement(path: Path, model: OpaqueModel, made: Split) -> str:
    """How the split model differs from the file on random inputs; empty where they agree, or cannot be compared."""
    inputs = _problems(model)
    try:
        whole = new_session(_bytes(read_model(path)), [CPU], optimise=False)
        known = {i.name for i in whole.get_inputs()}
        feeds = {n: a for n, a in zip(model.input_names, inputs, strict=True) if n in known}
        answers = whole.run(list(made.program.output_names), feeds)
    except ToolError:
        raise
    except Exception:  # random numbers may not be what its operators take
        answers = None
    models = {part: proto.SerializeToString() for part, proto in made.models.items()}
    try:
        runner = SplitRunner(made.wiring, models, made.constants, [CPU], optimise=False)
    except Exception as error:  # ONNX Runtime raises many kinds
        return f"a part cannot be loaded ({first_line(error)})"
    if answers is None:
        return ""
    found = [np.empty_like(a) for a in answers]
    try:
        runner.run(inputs, found, _BATCHES[0], made.program.iterations)
    except ToolError as error:
        return error.found
    if model.random:
        return ""
    for name, a, b in zip(made.program.output_names, found, answers, strict=True):
        if not _agree(a, b):
            return f"output {name!r} is not what the file computes"
    return ""


def _agree(found: np.ndarray, right: np.ndarray) -> bool:
    if right.dtype.kind not in "fiu":
        return bool(np.array_equal(found, right))
    a, b = found.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)):
        return False
    scale = max(float(np.abs(b[finite]).max(initial=0.0)), 1e-300)
    with np.errstate(over="ignore"):
        error = float(np.abs((a[finite] - b[finite]) / scale).max(initial=0.0))
    return error <= _TOLERANCE.get(right.dtype.name, 1e-9)


def _problems(model: OpaqueModel) -> list[np.ndarray]:
    """Random inputs."""
    return [_problem(model.types[name], model.batch_name, _BATCHES[0]) for name in model.program.inputs]


def _problem(type_: ValueType, name: str | None, batch: int) -> np.ndarray:
    """Normal numbers, and zeros for integers, whose range nobody knows."""
    shape, dtype = type_.for_batch(name, batch) or (), np.dtype(type_.dtype)
    values = np.random.default_rng(shape).standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)
    return np.asarray(values, dtype)


def _bytes(model: onnx.ModelProto) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, _NEWEST_IR)  # files newer than the runtime use nothing newer as a rule
    data: bytes = copy.SerializeToString()
    return data


def _type(value: Any) -> ValueType:
    kind = value.type
    name = kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else ""
    name = _NAMES.get(name, name)
    dtype = name if name in np.sctypeDict and np.dtype(name).kind in "fiub" else ""
    # An empty list says that nobody knows the number of axes, or that there are none.
    return ValueType(dtype, tuple(value.shape) or None)


def _stated(model: onnx.ModelProto, name: str, found: ValueType | None) -> ValueType:
    """The type of an output: lengths that are not found are those that the file states."""
    stated = next(type_of(o.type) for o in model.graph.output if o.name == name)
    if found is None or not found.dtype:
        return stated if found is None else found
    if stated.dims is None or (found.dims is not None and len(found.dims) != len(stated.dims)):
        return found
    if found.dims is None:
        return ValueType(found.dtype, stated.dims)
    dims = tuple(
        f if isinstance(f, int) else s if s is not None else f for f, s in zip(found.dims, stated.dims, strict=True)
    )
    return ValueType(found.dtype, dims)
