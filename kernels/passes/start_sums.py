"""Starts a sum with the fixed number that is added to it instead of with 0.

    acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc + b[i])
becomes
    acc = b[i]; for j: acc += w[i, j] x[j]; y[i] = f(acc)
which spares an addition that has to wait for the whole sum. b is a literal, a constant, or what `begin` leaves and no
iteration changes. Other numbers are added last as before: next to an iterate that a sum corrects, every term would be
rounded to the iterate's size; another sum, and a constant that each iteration has to fetch, would have to be there
first.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import writes
from unfoldc.kernels.loops import (
    ITERATION,
    Assign,
    Binary,
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
    constant = frozenset(name for name, buffer in program.buffers.items() if buffer.space == "constant")
    changed = writes(s for step in program.steps for s in step.body)
    fixed = frozenset(program.buffers) - changed
    steps = tuple(Step(s.first, s.count, _body(s.body, fixed)) for s in program.steps)
    return replace(program, begin=_body(program.begin, constant), steps=steps, end=_body(program.end, constant))


def _body(body: Sequence[Stmt], fixed: Set[str]) -> tuple[Stmt, ...]:
    inner = tuple(replace(s, body=_body(s.body, fixed)) if isinstance(s, For | Nest) else s for s in body)
    for at in range(len(inner)):
        inner = _started(inner, at, fixed)
    return inner


def _started(body: tuple[Stmt, ...], at: int, fixed: Set[str]) -> tuple[Stmt, ...]:
    """The body with another start for the sum that statement `at` declares, if it does and the sum is used once."""
    total, behind = body[at], body[at + 1 :]
    if not isinstance(total, Let) or not total.mutable or not isinstance(total.value, Const) or total.value.value:
        return body
    name = Local(total.name, total.value.dtype)
    added = [s.value for s in build.statements(behind) if isinstance(s, Assign) and s.name == name.name]
    if not all(isinstance(v, Binary) and v.operator in ("add", "sub") and v.a == name for v in added):
        return body
    found = build.within(behind)
    uses = [e for e in found if isinstance(e, Binary) and e.operator == "add" and name in (e.a, e.b) and e not in added]
    if len(uses) != 1 or found.count(name) != 1 + len(added):
        return body
    (use,) = uses
    start = use.b if use.a == name else use.a
    if not _fixed(start, fixed):
        return body
    rest = (build.map_stmt(s, lambda e: name if e == use else None) for s in behind)
    return (*body[:at], replace(total, value=start), *rest)


def _fixed(e: Expr, fixed: Set[str]) -> bool:
    """Whether a value is a literal or one of these buffers', the same in all iterations, found without other data."""
    if isinstance(e, Const):
        return True
    if not isinstance(e, Load) or e.buffer not in fixed:
        return False
    inside = [x for i in e.indices for x in build.walk(i)]
    return Var(ITERATION) not in inside and not any(isinstance(x, Load | Local) for x in inside)
