"""An interpreter of the loop representation in NumPy: slow, strict and plain, the oracle for passes and printers.

It refuses what a printer may assume never happens: operands of different types, an index outside its buffer, a store
into an input or a constant, a scalar used outside its block. Memory that was never written reads as NaN (integers: the
smallest value), and the scratch buffers share one arena as soon as the program has a memory plan, so that a pass that
drops a store or overlays two live buffers shows in the outputs.

Beyond `loops.py`: `floordiv` and `mod` are for integers that are not negative (languages differ on others), `div` of
integers rounds towards zero, `round` goes to the even neighbour on a tie, integers wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unfoldc.kernels.loops import (
    COMPARISONS,
    ITERATION,
    Assign,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)

Array = np.ndarray[Any, np.dtype[Any]]


def run(program: LoopProgram, inputs: Mapping[str, Array], iterations: int | None = None) -> dict[str, Array]:
    """Runs `begin`, the first `iterations` iterations (all if None) and `end` for one problem.

    `inputs` holds one array per input buffer; its elements are taken in C order. Returns the output buffers by name,
    in their shapes. Raises ValueError where the program or an input breaks a rule of `loops.py`.
    """
    count = program.iterations if iterations is None else iterations
    if not 0 <= count <= program.iterations:
        raise ValueError(f"iterations is {count}; the program has {program.iterations}")
    machine = _Machine(program, inputs)
    machine.call(program.begin, {})
    for step in program.steps:
        for k in range(step.first, min(step.first + step.count, count)):
            machine.call(step.body, {ITERATION: np.int32(k)})
    machine.call(program.end, {})
    return {name: machine.memory[name].copy() for name in program.outputs}


class _Machine:
    """The memory of one run."""

    def __init__(self, program: LoopProgram, inputs: Mapping[str, Array]) -> None:
        self.program = program
        self.memory: dict[str, Array] = {}
        self.declared: dict[str, tuple[str, bool]] = {}  # scalar -> (dtype, mutable)
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

    def block(self, body: tuple[Stmt, ...], outer: dict[str, Any]) -> None:
        """Runs statements; the scalars declared here end with the block, assignments to outer ones stay."""
        scalars = dict(outer)
        for statement in body:
            self.statement(statement, scalars)
        for name in outer:
            outer[name] = scalars[name]

    def statement(self, statement: Stmt, scalars: dict[str, Any]) -> None:
        match statement:
            case Let(name, value, mutable):
                if name in scalars:
                    raise ValueError(f"{name} is declared twice")
                scalars[name] = self.value(value, scalars)
                self.declared[name] = (value.dtype, mutable)
            case Assign(name, value):
                if name not in scalars or self.declared.get(name) != (value.dtype, True):
                    raise ValueError(f"{name} is not a mutable scalar of type {value.dtype}")
                scalars[name] = self.value(value, scalars)
            case Store(name, indices, value):
                buffer = self.program.buffers[name]
                if buffer.space in ("input", "constant") or buffer.dtype != value.dtype:
                    raise ValueError(f"a {value.dtype} is stored into {buffer}")
                self.memory[name][self.position(name, indices, scalars)] = self.value(value, scalars)
            case For(var, int(extent), body, "lanes"):
                self.together(body, [scalars | {var: np.int32(i)} for i in range(extent)])
            case For(var, extent, body):
                if var in scalars:
                    raise ValueError(f"{var} is declared twice")
                for i in range(extent if isinstance(extent, int) else int(self.value(extent, scalars))):
                    inner = scalars | {var: np.int32(i)}
                    self.block(body, inner)
                    scalars |= {name: inner[name] for name in scalars}
            case Nest(_, body):
                self.block(body, scalars)

    def together(self, body: tuple[Stmt, ...], outer: list[dict[str, Any]]) -> None:
        """Runs statements for all elements of a vector at once: each for all of them before the next."""
        lanes = [dict(scalars) for scalars in outer]
        for s in body:
            if isinstance(s, Nest):
                self.together(s.body, lanes)
            elif isinstance(s, For):
                count = s.extent if isinstance(s.extent, int) else int(self.value(s.extent, lanes[0]))
                for i in range(count):
                    inner = [scalars | {s.var: np.int32(i)} for scalars in lanes]
                    self.together(s.body, inner)
                    lanes = [{name: new[name] for name in old} for old, new in zip(lanes, inner, strict=True)]
            elif isinstance(s, Store):
                values = [(self.position(s.buffer, s.indices, own), self.value(s.value, own)) for own in lanes]
                for own, (at, value) in zip(lanes, values, strict=True):
                    self.statement(s, own)  # its checks; what it read may be new already
                    self.memory[s.buffer][at] = value
            else:
                for own in lanes:
                    self.statement(s, own)
        for scalars, new in zip(outer, lanes, strict=True):
            scalars.update({name: new[name] for name in scalars})

    def position(self, name: str, indices: tuple[Expr, ...], scalars: dict[str, Any]) -> tuple[int, ...]:
        shape = self.program.buffers[name].shape
        where = tuple(int(self.value(index, scalars)) for index in indices)
        if len(where) != len(shape) or not all(0 <= i < n for i, n in zip(where, shape, strict=True)):
            raise ValueError(f"{name} of shape {shape} has no element {where}")
        return where

    def value(self, e: Expr, scalars: dict[str, Any]) -> Any:
        """The value of an expression, a NumPy scalar of type `e.dtype`."""
        value = self._value(e, scalars)
        if value.dtype != e.dtype:
            raise ValueError(f"{e} is said to be {e.dtype} but is {value.dtype}")
        return value

    def _value(self, e: Expr, scalars: dict[str, Any]) -> Any:
        match e:
            case Const(value, dtype):
                return np.dtype(dtype).type(value)
            case Var(name) | Local(name):
                if name not in scalars:
                    raise ValueError(f"{name} is used outside its block")
                return scalars[name]
            case Load(name, indices):
                return self.memory[name][self.position(name, indices, scalars)]
            case Unary(operator, a, dtype):
                return np.dtype(dtype).type(UNARY[operator](self.value(a, scalars)))
            case Binary(operator, a, b, dtype):
                if a.dtype != b.dtype or (operator in COMPARISONS and dtype != "bool"):
                    raise ValueError(f"{operator} of {a.dtype} and {b.dtype} to {dtype}")
                return np.asarray(BINARY[operator](self.value(a, scalars), self.value(b, scalars)))[()]
            case Select(condition, a, b):
                chosen, other = self.value(a, scalars), self.value(b, scalars)
                return chosen if self.value(condition, scalars) else other
            case Cast(a, dtype):
                return np.asarray(self.value(a, scalars)).astype(dtype)[()]


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return a / b
    magnitude = abs(int(a)) // abs(int(b))
    return a.dtype.type(magnitude if (a < 0) == (b < 0) else -magnitude)


def _natural(a: Any) -> Any:
    if a.dtype.kind not in "iu" or a < 0:
        raise ValueError(f"floordiv and mod take integers from 0, not {a.dtype} {a}")
    return a


def _erf(a: Any) -> Any:
    import math

    return a if np.isnan(a) else math.erf(a)


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "neg": lambda a: -a,
    "abs": abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "erf": _erf,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "not": np.logical_not,
    "isnan": np.isnan,
}
BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _divide,
    "floordiv": lambda a, b: _natural(a) // _natural(b),
    "mod": lambda a, b: _natural(a) % _natural(b),
    "min": np.minimum,
    "max": np.maximum,
    "pow": lambda a, b: a**b,
    "fmod": np.fmod,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": np.logical_and,
    "or": np.logical_or,
}


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
