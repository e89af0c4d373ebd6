"""Expressions of the loop representation as lines of Python, one operation a line.

Floating-point numbers are NumPy scalars, rounded after each operation; loop variables and what is computed of them
alone for an index are Python's integers. No name of the program is written: what the text names is numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unfoldc.kernels.loops import (
    COMPARISONS,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    Load,
    Local,
    Select,
    Unary,
    Var,
)
from unfoldc.kernels.numpy_meanings import BINARY, UNARY

Function = Callable[[Mapping[str, Any], dict[str, Any]], Any]

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_OF_INDICES = _SIGNS.keys() | {"min", "max", "floordiv", "mod"}
_KEEP_THEIR_TYPE = frozenset({"neg", "abs", "sqrt", "exp", "log", "tanh", "sin", "cos", "floor", "ceil", "round"})


@dataclass(frozen=True)
class Scalar:
    """A name of the program in the text: `code` is a Python integer (`whole`) or a NumPy scalar, a list in lanes."""

    code: str
    dtype: str
    mutable: bool = False
    whole: bool = False
    lanes: bool = False

    @property
    def read(self) -> str:
        """The scalar of the running lane."""
        return f"{self.code}[lane]" if self.lanes else self.code


Scope = dict[str, Scalar]


class Writer:
    """The text of one function, and the values that it names."""

    def __init__(self, buffers: Mapping[str, Buffer]) -> None:
        self.buffers = buffers
        self.names: dict[str, Any] = {"array": np.asarray, "outside": _outside}
        self.constants: dict[Any, str] = {}
        self.memory: dict[str, str] = {}
        self.lines: list[str] = []
        self.depth = 1
        self.count = 0

    def function(self) -> Function:
        """Compiles the text."""
        memory = [f" {code} = memory[{self.constant(name)}]" for name, code in self.memory.items()]
        text = "\n".join(["def run(memory, scalars):", *memory, *self.lines, " return None"])
        exec(compile(text, "<loops>", "exec"), self.names)
        function: Function = self.names["run"]
        return function

    def entry(self, outer: Mapping[str, Scalar]) -> Scope:
        """Reads the scalars that the caller hands in."""
        scope = {}
        for name, scalar in outer.items():
            scope[name] = replace(scalar, code=self.new())
            given = f"scalars[{self.constant(name)}]"
            self.line(f"{scope[name].code} = " + (f"int({given})" if scalar.whole else given))
        return scope

    def line(self, text: str) -> None:
        """Writes a line at the depth of the running block."""
        self.lines.append(" " * self.depth + text)

    def new(self) -> str:
        """A name that nothing has yet."""
        self.count += 1
        return f"v{self.count}"

    def made(self, text: str) -> str:
        """A new variable of this value."""
        name = self.new()
        self.line(f"{name} = {text}")
        return name

    def constant(self, value: Any) -> str:
        """The name of a value that the text cannot hold."""
        key = (type(value), value.tobytes() if isinstance(value, np.generic) else value)
        if key not in self.constants:
            self.constants[key] = f"c{len(self.constants)}"
            self.names[self.constants[key]] = value
        return self.constants[key]

    def array(self, name: str) -> str:
        """The variable of a buffer's memory."""
        return self.memory.setdefault(name, f"m{len(self.memory)}")

    def position(self, name: str, indices: tuple[Expr, ...], scope: Scope) -> str:
        """The indices as the inside of a subscript, checked against the shape when they run."""
        shape = self.buffers[name].shape
        where = [self.whole(index, scope) for index in indices]
        if len(where) != len(shape):
            self.line(f"outside({self.constant(name)}, {shape}, {_tuple(where)})")
        bad = [f"0 <= {i} < {n}" for i, n in zip(where, shape, strict=False) if not (i.isdigit() and int(i) < n)]
        if bad:
            self.line(f"if not ({' and '.join(bad)}): outside({self.constant(name)}, {shape}, {_tuple(where)})")
        return _tuple(where)

    def whole(self, e: Expr, scope: Scope) -> str:
        """An integer as Python's: a variable or a literal."""
        match e:
            case Const(value, dtype) if dtype.startswith(("int", "uint")) and value >= 0:
                return str(int(value))
            case Var() | Local() if known(e, scope).whole:
                return known(e, scope).read
            case Binary(operator, a, b, dtype) if _of_variables(e, scope) and a.dtype == b.dtype:
                return self.made(self.operation(operator, self.whole(a, scope), self.whole(b, scope)))
        if not e.dtype.startswith(("int", "uint")):
            raise ValueError(f"an index or extent is {e.dtype}: {e}")
        return self.made(f"int({self.value(e, scope)})")

    def operation(self, operator: str, a: str, b: str) -> str:
        """An operation of Python's integers, as an expression."""
        if operator in _SIGNS:
            return f"{a} {_SIGNS[operator]} {b}"
        if operator in ("min", "max"):
            return f"{operator}({a}, {b})"
        return f"{self.constant(BINARY[operator])}({a}, {b})"

    def value(self, e: Expr, scope: Scope) -> str:
        """A NumPy scalar of type `e.dtype`: a variable or a constant's name."""
        match e:
            case Const(number, dtype):
                return self.constant(np.dtype(dtype).type(number))
            case Var() | Local():
                scalar = known(e, scope)
                return self.made(f"{self.type(scalar.dtype)}({scalar.read})") if scalar.whole else scalar.read
            case Load(name, indices, dtype):
                _same(e, self.buffers[name].dtype)
                return self.made(f"{self.array(name)}[{self.position(name, indices, scope)}]")
            case Unary(operator, a, dtype):
                text = f"{self.constant(UNARY[operator])}({self.value(a, scope)})"
                kept = a.dtype == dtype and operator in _KEEP_THEIR_TYPE and dtype.startswith("float")
                return self.made(text if kept else f"{self.type(dtype)}({text})")
            case Binary():
                return self.binary(e, scope)
            case Select(condition, a, b):
                _same(e, a.dtype)
                _same(e, b.dtype)
                x, y = self.value(a, scope), self.value(b, scope)
                return self.made(f"{x} if {self.condition(condition, scope)} else {y}")
            case Cast(a, dtype):
                value = self.value(a, scope)
                if a.dtype.startswith("float") and dtype.startswith("float"):
                    return self.made(f"{self.type(dtype)}({value})")
                return self.made(f"array({value}).astype({self.type(dtype)})[()]")

    def binary(self, e: Binary, scope: Scope) -> str:
        """An operation of two NumPy scalars of one type."""
        logical = e.operator in COMPARISONS or e.operator in ("and", "or")
        if e.a.dtype != e.b.dtype or (e.operator in COMPARISONS and e.dtype != "bool"):
            raise ValueError(f"{e.operator} of {e.a.dtype} and {e.b.dtype} to {e.dtype}")
        _same(e, "bool" if logical else e.a.dtype)
        if e.operator in COMPARISONS and _of_variables(e, scope):
            return self.made(f"{self.type('bool')}({self.condition(e, scope)})")
        a, b = self.value(e.a, scope), self.value(e.b, scope)
        if e.operator == "div" and e.dtype.startswith("float"):
            return self.made(f"{a} / {b}")
        if e.operator in _SIGNS:
            return self.made(f"{a} {_SIGNS[e.operator]} {b}")
        return self.made(f"{self.constant(BINARY[e.operator])}({a}, {b})")

    def condition(self, e: Expr, scope: Scope) -> str:
        """What holds or not: a comparison of variables of loops costs no NumPy scalar."""
        if isinstance(e, Binary) and e.operator in COMPARISONS and _of_variables(e, scope) and e.a.dtype == e.b.dtype:
            return f"({self.operation(e.operator, self.whole(e.a, scope), self.whole(e.b, scope))})"
        return self.value(e, scope)

    def type(self, dtype: str) -> str:
        """The name of a NumPy scalar's class."""
        return self.constant(np.dtype(dtype).type)


def _of_variables(e: Expr, scope: Scope) -> bool:
    """Whether it is made of literals and the variables of loops alone, by operations that Python's integers have."""
    match e:
        case Const(_, dtype):
            return dtype == "int32"
        case Var() | Local():
            return known(e, scope).whole
        case Binary(operator, a, b):
            return operator in _OF_INDICES and _of_variables(a, scope) and _of_variables(b, scope)
    return False


def known(e: Var | Local, scope: Scope) -> Scalar:
    """What a name means here. Raises ValueError where it means nothing or is of another type."""
    if e.name not in scope:
        raise ValueError(f"{e.name} is used outside its block")
    _same(e, scope[e.name].dtype)
    return scope[e.name]


def _same(e: Expr, dtype: str) -> None:
    if e.dtype != dtype:
        raise ValueError(f"{e} is said to be {e.dtype} but is {dtype}")


def _tuple(codes: list[str]) -> str:
    return f"({', '.join(codes)}{',' if len(codes) == 1 else ''})"


def _outside(name: str, shape: tuple[int, ...], where: tuple[int, ...]) -> None:
    raise ValueError(f"{name} of shape {shape} has no element {where}")
