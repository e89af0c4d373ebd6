"""The loop-level representation: what the printers turn into C, Numba and TIR. It knows nothing of ONNX.

A function is a tuple of statements over buffers and named scalars. Loops run from 0 in steps of 1. An index is an
integer expression per axis of the buffer. The variable `K` (`ITERATION`) is the number of the running iteration.
`min` and `max` return NaN when either side is NaN; comparisons give `bool`; `fmod` takes floating-point numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

ITERATION = "k"
SPACES = ("input", "output", "constant", "state", "scratch")
LOOP_KINDS = ("serial", "vector", "unroll", "rolled", "lanes")
BINARY_OPERATORS = (
    "add", "sub", "mul", "div", "floordiv", "mod", "min", "max", "pow", "fmod",
    "lt", "le", "gt", "ge", "eq", "ne", "and", "or",
)  # fmt: skip
UNARY_OPERATORS = (
    "neg", "abs", "sqrt", "exp", "log", "tanh", "erf", "sin", "cos", "floor", "ceil", "round", "not", "isnan",
)  # fmt: skip
COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})


@dataclass(frozen=True)
class Const:
    """A literal; `dtype` is a NumPy name, "int32" for indices."""

    value: float | int | bool
    dtype: str


@dataclass(frozen=True)
class Var:
    """A loop variable or `ITERATION`; always int32."""

    name: str
    dtype: str = "int32"


@dataclass(frozen=True)
class Local:
    """The value of a named scalar."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Load:
    """One element of a buffer."""

    buffer: str
    indices: tuple[Expr, ...]
    dtype: str


@dataclass(frozen=True)
class Unary:
    """`operator a`; `operator` is one of `UNARY_OPERATORS`."""

    operator: str
    a: Expr
    dtype: str


@dataclass(frozen=True)
class Binary:
    """`a operator b`, both of one type; `operator` is one of `BINARY_OPERATORS`."""

    operator: str
    a: Expr
    b: Expr
    dtype: str


@dataclass(frozen=True)
class Select:
    """`a` where the condition holds, else `b`; both sides may be evaluated."""

    condition: Expr
    a: Expr
    b: Expr
    dtype: str


@dataclass(frozen=True)
class Cast:
    """Conversion to `dtype` as C converts."""

    a: Expr
    dtype: str


Expr = Const | Var | Local | Load | Unary | Binary | Select | Cast


@dataclass(frozen=True)
class Let:
    """Declares a scalar, visible to the end of the enclosing block; `mutable` ones may be assigned.

    One that is `placed` is to be computed right here and to be kept in a register; a compiler is not to move it.
    """

    name: str
    value: Expr
    mutable: bool = False
    placed: bool = False


@dataclass(frozen=True)
class Assign:
    """Gives a mutable scalar a new value."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Store:
    """Writes one element of a buffer."""

    buffer: str
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True)
class For:
    """Runs `body` for `var` = 0 .. extent - 1; `kind` is one of `LOOP_KINDS`.

    One of the kind "rolled" is long enough as it stands; a compiler is not to write its runs out.

    The runs of one of the kind "lanes", whose extent is a power of 2, advance side by side, each in an element of a
    vector: every statement is carried out for all of them before the next, and what they read or write at places that
    differ lies side by side as well. Only a loop inside that does nothing but add up a row of a square, of as many rows
    as there are runs, reads across: each run its row.

    The extent is a number of at least 1, or an int32 expression of literals, scalars and the variables of loops around
    this one, as in a triangle; where that is 0 or less, the loop does not run.
    """

    var: str
    extent: int | Expr
    body: tuple[Stmt, ...]
    kind: str = "serial"


@dataclass(frozen=True)
class Nest:
    """Statements that come from these ONNX nodes (text for a comment; printers clean it)."""

    origins: tuple[str, ...]
    body: tuple[Stmt, ...]


Stmt = Let | Assign | Store | For | Nest


@dataclass(frozen=True)
class Buffer:
    """`space` is one of `SPACES`. Scratch lives within one call of one function, state until the next `begin`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    space: str

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Step:
    """The iterations `first .. first + count - 1` run `body`."""

    first: int
    count: int
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class LoopProgram:
    """`begin`, the steps and `end` over shared buffers.

    Buffer names are made by the compiler and are identifiers. `inputs` and `outputs` give the order of the
    arguments. `scratch_offsets` places each scratch buffer in one arena of `scratch_bytes` (same offsets may be
    shared by buffers that are never live together); filled by the memory plan.
    """

    buffers: Mapping[str, Buffer]
    constants: Mapping[str, np.ndarray]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    begin: tuple[Stmt, ...]
    steps: tuple[Step, ...]
    end: tuple[Stmt, ...]
    scratch_offsets: Mapping[str, int] = field(default_factory=dict)
    scratch_bytes: int = 0

    @property
    def iterations(self) -> int:
        """K, the number of iterations."""
        return sum(s.count for s in self.steps)

    @property
    def parts(self) -> tuple[tuple[Stmt, ...], ...]:
        """`begin`, the body of each step, and `end`."""
        return (self.begin, *(s.body for s in self.steps), self.end)

    def mapped(self, change: Callable[[tuple[Stmt, ...]], tuple[Stmt, ...]]) -> LoopProgram:
        """The program with each of its parts changed."""
        steps = tuple(Step(s.first, s.count, change(s.body)) for s in self.steps)
        return replace(self, begin=change(self.begin), steps=steps, end=change(self.end))
