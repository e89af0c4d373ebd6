"""Starts a sum with the constant that is added to it instead of with 0.

    acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc + b[i])
becomes
    acc = b[i]; for j: acc += w[i, j] x[j]; y[i] = f(acc)
which spares an addition that has to wait for the whole sum. Other numbers are added last as before: next to an iterate
that a sum corrects, every term would be rounded to the iterate's size; another sum, and a constant that each iteration
has to fetch, would have to be there first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import (
    ITERATION,
    Assign,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Var,
)


def start_sums(program: LoopProgram) -> LoopProgram:
    """The program with such sums in all of its nests."""
    own = program.buffers
    steps = tuple(Step(s.first, s.count, _body(s.body, own)) for s in program.steps)
    return replace(program, begin=_body(program.begin, own), steps=steps, end=_body(program.end, own))


def _body(body: Sequence[Stmt], buffers: Mapping[str, Buffer]) -> tuple[Stmt, ...]:
    inner = tuple(replace(s, body=_body(s.body, buffers)) if isinstance(s, For | Nest) else s for s in body)
    for at in range(len(inner)):
        inner = _started(inner, at, buffers)
    return inner


def _started(body: tuple[Stmt, ...], at: int, buffers: Mapping[str, Buffer]) -> tuple[Stmt, ...]:
    """The body with another start for the sum that statement `at` declares, if it does and the sum is used once."""
    total, behind = body[at], body[at + 1 :]
    if not isinstance(total, Let) or not total.mutable or not isinstance(total.value, Const) or total.value.value:
        return body
    name = Local(total.name, total.value.dtype)
    added = [s.value for s in build.statements(behind) if isinstance(s, Assign) and s.name == name.name]
    if not all(isinstance(v, Binary) and v.operator in ("add", "sub") and v.a == name for v in added):
        return body
    found = [e for s in behind for top in build.expressions(s) for e in build.walk(top)]
    uses = [e for e in found if isinstance(e, Binary) and e.operator == "add" and name in (e.a, e.b) and e not in added]
    if len(uses) != 1 or found.count(name) != 1 + len(added):
        return body
    (use,) = uses
    start = use.b if use.a == name else use.a
    if not _constant(start, buffers):
        return body
    rest = (build.map_stmt(s, lambda e: name if e == use else None) for s in behind)
    return (*body[:at], replace(total, value=start), *rest)


def _constant(e: Expr, buffers: Mapping[str, Buffer]) -> bool:
    """Whether a value is a literal or a constant of all iterations, found without other data."""
    if isinstance(e, Const):
        return True
    if not isinstance(e, Load) or buffers[e.buffer].space != "constant":
        return False
    inside = [x for i in e.indices for x in build.walk(i)]
    return Var(ITERATION) not in inside and not any(isinstance(x, Load | Local) for x in inside)
