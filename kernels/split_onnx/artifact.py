"""ONNX file -> artifact of the back end `onnxruntime`: models and arrays, no code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from unfoldc.errors import ModelError
from unfoldc.kernels.artifact import Artifact, MemoryPlan, Port
from unfoldc.kernels.split_onnx.read import OpaqueModel, read_opaque
from unfoldc.kernels.split_onnx.split import WAYS, Split, split
from unfoldc.kernels.split_onnx.value_types import Evaluate, Infer, ValueType, evaluated, inferred_types
from unfoldc.kernels.target_spec import TargetSpec

# Tries a split model against the file: why it cannot be used, empty if it can.
Check = Callable[[Path, OpaqueModel, Split], str]


_TOLERATED = ("No Op registered", "No opset import", "Field 'shape' of 'type' is required")


@dataclass(frozen=True)
class Tools:
    """What a runtime can do better than ONNX's own tools: find types, evaluate constants, try the result."""

    infer: Infer = inferred_types
    evaluate: Evaluate = evaluated
    check: Check = lambda path, model, made: ""


def compile_split(
    path: Path | str,
    spec: TargetSpec,
    symbol: str = "solver",
    batch: int | str | None = None,
    dimensions: Mapping[str, int] | None = None,
    tools: Tools | None = None,
) -> Artifact:
    """Splits a model; options as for `compile_onnx`. Raises ModelError for what is damaged, not bound or not sound.

    Iterations are rolled where they are alike. Where the parts cannot be made, or `tools.check` objects, each iteration
    stays a model of its own, and at last the whole file counts as one.
    """
    model, made, objections = split_file(path, batch, dimensions, tools or Tools())
    inputs, outputs = ports(model, made, str(path))
    sources = {f"{symbol}_split.json": json.dumps(made.wiring, indent=1) + "\n"}
    files = {
        f"{symbol}_{part}.onnx": proto.SerializeToString(deterministic=True) for part, proto in made.models.items()
    }
    program = made.program
    notes: dict[str, Any] = {
        "boundaries": model.boundaries,
        "not_rolled": [*objections, *program.notes],
        "metadata": dict(model.metadata),
        "constant_bytes_per_iteration": max(
            (
                sum(made.constants[made.wiring["constants"][n]][0].nbytes for n in f["stacked"])
                for f in made.wiring["iterate"]
            ),
            default=0,
        ),
    }
    return Artifact(
        symbol=symbol,
        backend="onnxruntime",
        target=spec,
        iterations=program.iterations,
        inputs=inputs,
        outputs=outputs,
        sources=sources,
        weights=dict(made.constants),
        memory=memory_plan(made),
        cost=None,
        batch=batch if isinstance(batch, int) and any(p.batched for p in inputs) else None,
        early_stop=program.early_stop,
        notes=notes,
        models=files,
    )


def split_file(
    path: Path | str, batch: int | str | None, dimensions: Mapping[str, int] | None, tools: Tools
) -> tuple[OpaqueModel, Split, list[str]]:
    """The model, its parts, and why better ways of splitting it were not taken."""
    model = read_opaque(path, dimensions or {}, tools.infer)
    if isinstance(batch, int) and model.batch_name and _open(model):
        fixed = {model.batch_name: batch, "": batch}  # the batch may have no name in the file
        model = read_opaque(path, {**(dimensions or {}), **fixed}, tools.infer)
    objections: list[str] = []
    for way in WAYS:
        try:
            made = split(model, way(model, tools.evaluate))
            objection = _unsound(made) or tools.check(Path(path), model, made)
        except (ValueError, KeyError, TypeError) as error:  # what a pass cannot do with values it knows nothing of
            objection = f"{type(error).__name__}: {error}"
        if not objection:
            return model, made, objections
        objections.append(f"{way.__name__}: {objection}")
    raise ModelError(str(path), f"it cannot be split ({objections[-1]})", "a sound ONNX model", "Check the export.")


def _unsound(made: Split) -> str:
    """What ONNX's checker says of the parts, but for operators and shapes that it cannot know."""
    for part, proto in made.models.items():
        try:
            onnx.checker.check_model(proto)
        except onnx.checker.ValidationError as error:
            if not any(text in str(error) for text in _TOLERATED):
                return f"{part}: {str(error).splitlines()[0]}"
    return ""


def _open(model: OpaqueModel) -> bool:
    """Whether an output has a length that is neither known nor the batch."""
    return any(_port(model, "", model.types[o]) is None for o in model.program.outputs)


def ports(model: OpaqueModel, made: Split, where: str) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs as the caller sees them."""
    found: list[Port] = []
    program = made.program
    for name, value in (
        *zip(model.input_names, program.inputs, strict=True),
        *zip(program.output_names, _results(made), strict=True),
    ):
        port = _port(model, name, made_type(model, made, value))
        if port is None:
            raise ModelError(
                f"{where}: output {name!r}",
                "its shape depends on the data, or is not known before the model runs",
                "outputs of fixed lengths, but for a batch axis in front",
                "Compile with batch=N and dimensions={...}, or pad the output to a fixed length.",
            )
        found.append(port)
    count = len(model.input_names)
    return tuple(found[:count]), tuple(found[count:])


def _results(made: Split) -> list[str]:
    return [target for target, _ in made.wiring["end"]["outputs"]]


def made_type(model: OpaqueModel, made: Split, name: str) -> ValueType:
    """The type of a value of the split model."""
    facts = made.wiring["types"].get(name)
    if facts is None:
        return model.types[name]
    return ValueType(facts["dtype"], None if facts["dims"] is None else tuple(facts["dims"]))


def _port(model: OpaqueModel, name: str, type_: ValueType) -> Port | None:
    dims = type_.expected
    batched = bool(dims) and model.batch_name is not None and (dims or ("",))[0] == model.batch_name
    shape = ValueType(type_.dtype, (dims or ())[1:] if batched else dims).for_batch(None, 1)
    return None if shape is None or not type_.dtype else Port(name, type_.dtype, shape, batched)


def memory_plan(made: Split) -> MemoryPlan:
    """Bytes that are known, of one problem: constants, both buffers of each state, what each iteration leaves behind.

    Scratch memory is the runtime's affair.
    """
    constants = sum(value.nbytes for value in made.constants.values())
    tensors = [t for proto in made.models.values() for t in proto.graph.initializer]
    constants += sum(int(np.prod(t.dims)) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in tensors)
    states = 0
    copies = dict.fromkeys(made.wiring["states"], 2)
    copies |= {h: f["count"] for f in made.wiring["iterate"] for h in f["kept"]}
    for name, count in copies.items():
        facts = made.wiring["types"][name]
        shape = ValueType(facts["dtype"], None if facts["dims"] is None else tuple(facts["dims"])).for_batch(
            made.wiring["batch"], 1
        )
        if shape is None:
            return MemoryPlan(None, None, constants)
        states += count * int(np.prod(shape)) * np.dtype(facts["dtype"]).itemsize
    return MemoryPlan(states, None, constants)
