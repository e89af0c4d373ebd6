"""What a program takes on a machine with vectors, in operations: a yardstick for two forms of the same computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
    Expr,
    For,
    Let,
    Load,
    LoopProgram,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)

_FUNCTIONS = frozenset({"exp", "log", "tanh", "erf", "sin", "cos", "pow"})
_DEAR = {"div": 8, "sqrt": 8, "fmod": 8} | dict.fromkeys(_FUNCTIONS, 20)
_UNKNOWN = 16  # runs of a loop whose length depends on the loops around it
_FOUND = 4  # elements at once where the C compiler finds by itself that a loop's elements lie side by side


def vector_cost(program: LoopProgram) -> float:
    """Operations of a solve: in loops of the kind "lanes", one on a whole vector counts once."""
    own = program.buffers
    steps = sum(s.count * _body(s.body, own) for s in program.steps)
    return _body(program.begin, own) + steps + _body(program.end, own)


def calls_functions(body: Sequence[Stmt]) -> bool:
    """Whether elementary functions are evaluated, each of which is many operations one after the other."""
    tops = build.within(body)
    return any(isinstance(e, Unary | Binary) and e.operator in _FUNCTIONS for e in tops)


def _body(body: Sequence[Stmt], buffers: Mapping[str, Buffer]) -> float:
    return sum(_statement(s, buffers) for s in body)


def _statement(s: Stmt, buffers: Mapping[str, Buffer]) -> float:
    match s:
        case For(extent=extent, body=body):
            inner = _body(body, buffers)
            if s.kind == "lanes":
                return inner
            together = _FOUND if _side_by_side(s, buffers) else 1
            return inner * (extent if isinstance(extent, int) else _UNKNOWN) / together
        case Nest(body=body):
            return _body(body, buffers)
        case Let(value=value) | Assign(value=value):
            return _expression(value)
        case Store(value=value):
            return 1 + _expression(value)


def _expression(e: Expr) -> int:
    """Operations and reads of data; indices cost nothing."""
    match e:
        case Load():
            return 1
        case Unary(operator, a):
            return _DEAR.get(operator, 1) + _expression(a)
        case Binary(operator, a, b):
            return _DEAR.get(operator, 1) + _expression(a) + _expression(b)
        case Select(condition, a, b):
            return 1 + _expression(condition) + _expression(a) + _expression(b)
    return 0


def _side_by_side(loop: For, buffers: Mapping[str, Buffer]) -> bool:
    """Whether an innermost loop meets every buffer at one place or at places one behind the other."""
    if any(isinstance(s, For | Nest) for s in loop.body):
        return False
    own = Var(loop.var)
    for a in accesses(loop.body):
        for axis, i in enumerate(a.indices):
            terms = linear(i).terms
            factor = terms.pop(own, 0)
            inside = any(own in build.walk(e) for e in terms)
            last = all(n == 1 for n in buffers[a.buffer].shape[axis + 1 :])
            if inside or factor not in (0, 1) or (factor and not last):
                return False
    return True
