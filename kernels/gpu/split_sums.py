"""Sums that a team of lanes adds up together: each lane its part of the terms, then all parts are combined.

    acc = start; for j < n: acc += f(j)
becomes
    acc = start in lane 0, else 0; for j < n / team: acc += f(j team + lane); combine acc
so neighbouring lanes read neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.gpu.parts import LANE, NEUTRAL, Combine, Settle, Work, reads, writes
from unfoldc.kernels.index_bounds import Ranges, longest
from unfoldc.kernels.loops import Assign, Binary, For, Let, Local, Stmt, Store, Var

_LONG = 8  # terms of each lane from which on those that all lanes have are counted apart
_TOGETHER = 6  # a multiple of which that is, so that a printer can write several of them out


def split_sums(body: Sequence[Stmt], team: int, ranges: Ranges) -> tuple[Work, ...] | None:
    """The statements with each loop that does nothing but combine scalars split over a team; None if there is none.

    The loops stand directly in the body. A scalar starts where it starts in the first lane only.
    """
    result: list[Work] = []
    found = False
    for s in body:
        sums = _sums(s) if isinstance(s, For) else None
        if not isinstance(s, For) or sums is None or longest(s.extent, ranges) < 2:
            result.append(s)
            continue
        found = True
        for name, (operator, dtype) in sums.items():
            first = build.binary("eq", Var(LANE), build.ZERO)
            neutral = build.literal(NEUTRAL[operator], dtype)
            result.append(Assign(name, build.select(first, Local(name, dtype), neutral)))
        result += _part(s, team)
        result += [Combine(name, operator, dtype, team) for name, (operator, dtype) in sums.items()]
    return tuple(result) if found else None


def _sums(loop: For) -> dict[str, tuple[str, str]] | None:
    """The scalars that a loop combines, each with its operator and type; None if it does anything else."""
    inside = build.statements(loop.body)
    own = {s.name for s in inside if isinstance(s, Let)}
    sums: dict[str, tuple[str, str]] = {}
    if not all(isinstance(s, Let | Assign | For) for s in inside):
        return None
    for s in inside:
        if not isinstance(s, Assign) or s.name in own:
            continue
        operator = _operator(s)
        if operator is None or sums.setdefault(s.name, (operator, s.value.dtype)) != (operator, s.value.dtype):
            return None
    read = build.within(loop.body)
    times = [sum(isinstance(e, Local) and e.name == name for e in read) for name in sums]
    assigned = [sum(isinstance(s, Assign) and s.name == name for s in inside) for name in sums]
    extents = [e for s in inside if isinstance(s, For) and not isinstance(s.extent, int) for e in build.walk(s.extent)]
    free = Var(loop.var) not in extents
    return sums if sums and times == assigned and free else None


def _operator(s: Assign) -> str | None:
    """The operator of `acc = acc o term`; a term that is taken away is added with another sign."""
    if not isinstance(s.value, Binary) or not s.value.dtype.startswith("float"):
        return None
    own = Local(s.name, s.value.dtype)
    if s.value.operator in NEUTRAL and (s.value.a == own) != (s.value.b == own):
        return s.value.operator
    return "add" if s.value.operator == "sub" and s.value.a == own else None


def _part(loop: For, team: int) -> list[For]:
    """The terms of one lane: a number that every lane has, then a few more."""
    place = build.add(build.mul(Var(loop.var), build.index(team)), Var(LANE))
    body = tuple(build.substitute(s, loop.var, place) for s in loop.body)
    if isinstance(loop.extent, int) and loop.extent % team == 0:
        return [replace(loop, extent=loop.extent // team, body=body)]
    result: list[For] = []
    left = build.index(loop.extent) if isinstance(loop.extent, int) else loop.extent
    if isinstance(loop.extent, int) and loop.extent >= _LONG * team:
        every = loop.extent // team // _TOGETHER * _TOGETHER
        result.append(replace(loop, extent=every, body=body))
        left, place = build.index(loop.extent - every * team), build.add(place, build.index(every * team))
        body = tuple(build.substitute(s, loop.var, place) for s in loop.body)
    more = build.binary("max", build.sub(build.add(left, build.index(team - 1)), Var(LANE)), build.ZERO)
    return [*result, replace(loop, extent=build.binary("floordiv", more, build.index(team)), body=body)]


def stored_last(body: Sequence[Work], prefix: str) -> tuple[Work, ...] | None:
    """The body of a team, whose first lane stores when all have read what it overwrites; None if that cannot be.

    Names of new scalars start with `prefix`.
    """
    first = next((i for i, s in enumerate(body) if writes([s])), len(body))
    head, tail = body[:first], body[first:]
    if not reads(body) & writes(body):
        return tuple(body)
    values: list[Work] = []
    stores: list[Work] = []
    for s in tail:
        if reads([s]) & writes(stores) or not isinstance(s, Let | Store):
            return None
        if isinstance(s, Store):
            name = f"{prefix}{len(stores)}"
            values.append(Let(name, s.value))
            stores.append(Store(s.buffer, s.indices, Local(name, s.value.dtype)))
        else:
            values.append(s)
    return (*head, *values, Settle(), *stores)
