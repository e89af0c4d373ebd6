"""A call whose arrays are checked once: what is left of it is the way into the compiled code."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.runtime.engine import Engine, bound_solve
from unfoldc.runtime.ports import bind, common_batch, shape_text, signature


class BoundCall(functools.partial[Any]):
    """`call()` solves what the bound inputs hold at that moment, into the bound outputs, which it returns.

    One array is returned as it is, several as a tuple. `inputs` and `outputs` are the arrays by name, kept alive as
    long as the call is; write new problems into the inputs in place. `batch` problems are solved with `iterations`
    iterations. On the back ends c, tvm and numba a call allocates nothing and takes less than 0.1 us over the compiled
    code. A call has one workspace and one place for the answers: bind one for each thread, and do not call one from
    two threads at once. Different calls, and the solver itself, may run at the same time.
    """

    # A `partial` of the function that solves: the only callable with members that Python calls without a frame.
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    batch: int
    iterations: int

    def __repr__(self) -> str:
        shapes = [
            ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            for arrays in (self.inputs, self.outputs)
        ]
        return f"<BoundCall {shapes[0]} -> {shapes[1]}; {self.iterations} iterations>"


def bind_call(artifact: Artifact, engine: Engine, inputs: Any, outputs: Any, iterations: int) -> BoundCall:
    """The call of an engine with these arrays; `inputs` and `outputs` as for `Solver.bind`.

    Raises InputError for an array that could not be passed on as it is, and for outputs that overlap another array.
    """
    read = given_arrays(artifact.inputs, inputs, artifact.batch)
    for port, array in zip(artifact.inputs, read, strict=True):
        _check(f"input {port.name}", port, array)
    batch = common_batch(artifact.inputs, read, artifact.batch)
    written = [_output(port, array, batch) for port, array in given_outputs(artifact, outputs)]
    names = [f"input {port.name}" for port in artifact.inputs]
    others = list(zip(names, read, strict=True))
    for port, array in zip(artifact.outputs, written, strict=True):
        for name, other in others:
            if np.may_share_memory(array, other):  # exact, for contiguous arrays
                raise InputError(
                    f"output {port.name}", f"its memory overlaps that of {name}", "arrays apart from each other",
                    "Pass an array of its own.",
                )  # fmt: skip
        others.append((f"output {port.name}", array))
    answer: Any = written[0] if len(written) == 1 else tuple(written)
    call = BoundCall(bound_solve(engine, read, written, batch, iterations, answer))
    call.inputs = MappingProxyType({port.name: array for port, array in zip(artifact.inputs, read, strict=True)})
    call.outputs = MappingProxyType({port.name: array for port, array in zip(artifact.outputs, written, strict=True)})
    call.batch, call.iterations = batch, iterations
    return call


def given_arrays(ports: Sequence[Port], arrays: Any, batch: int | None) -> list[Any]:
    """One array per port; `arrays` as the inputs of `Solver.bind`. Raises InputError for what is none of that."""
    if isinstance(arrays, Mapping):
        return bind(ports, (), arrays, batch)
    if isinstance(arrays, np.ndarray):  # the only input
        return bind(ports, (arrays,), {}, batch)
    if not isinstance(arrays, Sequence) or isinstance(arrays, str | bytes):
        raise InputError(
            "inputs", type(arrays).__name__, "a mapping from input names to arrays, or arrays in order",
            f"Pass {{{ports[0].name!r}: array}}." if ports else "Pass {}.",
        )  # fmt: skip
    return bind(ports, arrays, {}, batch)


def given_outputs(artifact: Artifact, outputs: Any) -> list[tuple[Port, Any]]:
    """Each output port with the array given for it, or None; `outputs` as for `Solver.bind`."""
    ports = artifact.outputs
    if isinstance(outputs, np.ndarray):
        outputs = (outputs,)
    if outputs is not None and not isinstance(outputs, Mapping | Sequence):
        allowed = "None, a mapping from output names to arrays, or arrays in order"
        raise InputError("outputs", type(outputs).__name__, allowed, f"Pass {{{ports[0].name!r}: array}}.")
    if not isinstance(outputs, Mapping):
        outputs = dict(zip([p.name for p in ports], outputs or (), strict=False)) | (
            {f"number {len(ports)}": None} if outputs is not None and len(outputs) > len(ports) else {}
        )
    unknown = [name for name in outputs if name not in {p.name for p in ports}]
    if unknown:
        allowed = signature(ports, artifact.batch)
        raise InputError(f"output {unknown[0]}", "no such output", allowed, "Use these names, or fewer arrays.")
    return [(port, outputs.get(port.name)) for port in ports]


def _output(port: Port, array: Any, batch: int) -> np.ndarray:
    shape = (batch, *port.shape) if port.batched else port.shape
    if array is None:
        return np.zeros(shape, port.dtype)
    where = f"output {port.name}"
    _check(where, port, array)
    if array.shape != shape:
        do = f"Pass an array of shape {shape}, or None to have it allocated."
        raise InputError(where, f"shape {array.shape}", f"{shape_text(port, batch)}, for the inputs' batch", do)
    if not array.flags.writeable:
        raise InputError(where, "a read-only array", "an array that can be written to", "Pass a copy of it.")
    return array  # type: ignore[no-any-return]


def _check(where: str, port: Port, array: Any) -> None:
    """Raises InputError for what would have to be converted: changes to the caller's array would not be seen."""
    masked = isinstance(array, np.ma.MaskedArray)
    if masked or not isinstance(array, np.ndarray):
        fill = "Fill the masked entries, for example with .filled(0)."
        found, do = type(array).__name__, fill if masked else f"Pass np.ascontiguousarray(array, {port.dtype!r})."
        raise InputError(where, found, "a NumPy array, which is bound as it is", do)
    if array.dtype != np.dtype(port.dtype):
        found, do = f"element type {array.dtype}", f"Pass array.astype({port.dtype!r}), and write to that."
        raise InputError(where, found, f"{port.dtype} exactly, for nothing is converted in a call", do)
    if not (array.flags.c_contiguous and array.flags.aligned):
        found = "an array that is not contiguous" if array.flags.aligned else "an array that is not aligned"
        do = "Pass np.ascontiguousarray(array), or array.copy(), and write to that."
        raise InputError(where, found, "rows one after the other, aligned", do)
