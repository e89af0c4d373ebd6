"""Runs the loop representation in Python: slow, strict and plain, the oracle for passes and printers.

It refuses what `printers/plain_python.py` refuses. Memory that was never written reads as NaN (integers: the smallest
value), and the scratch buffers share one arena as soon as the program has a memory plan, so that a pass that drops a
store or overlays two live buffers shows in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unfoldc.kernels.loops import ITERATION, Buffer, Expr, LoopProgram, Stmt
from unfoldc.kernels.printers.plain_expressions import Function, Scalar
from unfoldc.kernels.printers.plain_python import function_of, value_of

Array = np.ndarray[Any, np.dtype[Any]]


def run(program: LoopProgram, inputs: Mapping[str, Array], iterations: int | None = None) -> dict[str, Array]:
    """Runs `begin`, the first `iterations` iterations (all if None) and `end` for one problem.

    `inputs` holds one array per input buffer; its elements are taken in C order. Returns the output buffers by name,
    in their shapes. Raises ValueError where the program or an input breaks a rule of `loops.py`.
    """
    count = program.iterations if iterations is None else iterations
    if not 0 <= count <= program.iterations:
        raise ValueError(f"iterations is {count}; the program has {program.iterations}")
    machine = Machine(program, inputs)
    machine.call(program.begin, {})
    for step in program.steps:
        for k in range(step.first, min(step.first + step.count, count)):
            machine.call(step.body, {ITERATION: np.int32(k)})
    machine.call(program.end, {})
    return {name: machine.memory[name].copy() for name in program.outputs}


class Machine:
    """The memory of one run, and the functions made of what it ran."""

    def __init__(self, program: LoopProgram, inputs: Mapping[str, Array]) -> None:
        self.program = program
        self.memory: dict[str, Array] = {}
        self.mutable: set[str] = set()  # of the scalars that callers hand in
        self.functions: dict[tuple[Any, ...], tuple[Any, Function]] = {}  # what was written stays, and with it its id
        for name, buffer in program.buffers.items():
            if buffer.space == "constant":
                self.memory[name] = _filled(buffer, program.constants[name])
            elif buffer.space == "input":
                self.memory[name] = _filled(buffer, inputs[name])
            elif buffer.space != "scratch":
                self.memory[name] = _poison(buffer.dtype, buffer.size).reshape(buffer.shape)

    def call(self, body: tuple[Stmt, ...], scalars: dict[str, Any]) -> None:
        """One call of `begin`, an iteration or `end`: scratch does not survive from call to call."""
        arena = np.full(self.program.scratch_bytes, 0xFF, np.uint8)
        for name, buffer in self.program.buffers.items():
            if buffer.space != "scratch":
                continue
            if name in self.program.scratch_offsets:
                start = self.program.scratch_offsets[name]
                if start < 0 or start + buffer.nbytes > arena.size:
                    raise ValueError(f"{name} ends outside the scratch arena of {arena.size} bytes")
                self.memory[name] = arena[start : start + buffer.nbytes].view(buffer.dtype).reshape(buffer.shape)
            else:
                self.memory[name] = _poison(buffer.dtype, buffer.size).reshape(buffer.shape)
        with np.errstate(all="ignore"):
            self.block(body, scalars)

    def block(self, body: tuple[Stmt, ...], scalars: dict[str, Any]) -> None:
        """Runs statements; the scalars declared here end with the block, assignments to outer ones stay."""
        self._function(body, scalars, lambda types: function_of(body, self.program.buffers, types))

    def statement(self, s: Stmt, scalars: dict[str, Any]) -> None:
        """Runs one statement as a block."""
        self._function(s, scalars, lambda types: function_of((s,), self.program.buffers, types))

    def value(self, e: Expr, scalars: dict[str, Any]) -> Any:
        """The value of an expression, a NumPy scalar of type `e.dtype`."""
        return self._function(e, scalars, lambda types: value_of(e, self.program.buffers, types))

    def _function(self, of: Any, scalars: dict[str, Any], make: Callable[[dict[str, Scalar]], Function]) -> Any:
        """Runs what was made of this object before, or is made now."""
        key = (id(of), *scalars)
        if key not in self.functions:
            self.functions[key] = of, make(self._types(scalars))
        return self.functions[key][1](self.memory, scalars)

    def _types(self, scalars: Mapping[str, Any]) -> dict[str, Scalar]:
        """An int32 that nothing changes, such as a loop's variable, is known as Python's integer."""
        found = {}
        for name, value in scalars.items():
            mutable = name in self.mutable
            found[name] = Scalar("", value.dtype.name, mutable, whole=value.dtype == np.int32 and not mutable)
        return found


def _filled(buffer: Buffer, values: Array) -> Array:
    array = np.asarray(values)
    if array.size != buffer.size or array.dtype != buffer.dtype:
        raise ValueError(f"{buffer.name} is {buffer.dtype}{buffer.shape}, got {array.dtype}{array.shape}")
    return np.array(array, order="C").reshape(buffer.shape)


def _poison(dtype: str, size: int) -> Array:
    """What unwritten memory reads as: NaN, or the smallest integer."""
    kind = np.dtype(dtype).kind
    value = np.nan if kind == "f" else False if kind == "b" else np.iinfo(dtype).min
    return np.full(size, value, dtype)
