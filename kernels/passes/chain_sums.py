"""Lets a sum that is added to another one, or taken from it, go on where that one ends.

    a = 0; for j: a += w[i, j] x[j]; b = 0; for j: b += v[i, j] u[j]; y[i] = f(a - h[i] - b)
becomes
    a = 0; for j: a += w[i, j] x[j]; for j: a -= v[i, j] u[j]; y[i] = f(a - h[i])
which spares a register, its zero and an addition for each result. It pays where things are done one after the other; a
processor that does several at a time would have to wait for the first sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import writes
from unfoldc.kernels.loops import Assign, Binary, Const, Expr, For, Let, Load, Local, LoopProgram, Nest, Stmt

_SIGNS = {"add": 1, "sub": -1}
Leaf = tuple[int, Expr]
"""A sign, 1 or -1, and what is added with it."""


def chain_sums(program: LoopProgram) -> LoopProgram:
    """The program with such sums in all of its nests."""
    return program.mapped(_body)


def _body(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    result = tuple(replace(s, body=_body(s.body)) if isinstance(s, For | Nest) else s for s in body)
    while True:
        changed = _chained(result)
        if changed is None:
            return result
        result = changed


@dataclass(frozen=True)
class _Sum:
    """A sum of one loop, used once behind it: the places of its start and its loop in a body."""

    name: str
    start: int
    loop: int


def _chained(body: tuple[Stmt, ...]) -> tuple[Stmt, ...] | None:
    """The body with the first two such sums as one; None where there are none."""
    sums = _sums(body)
    if len(sums) < 2:
        return None
    terms = _terms_of(body)
    for at, s in enumerate(body):
        if isinstance(s, For | Nest) or isinstance(s, Let) and s.name in terms:
            continue  # the latter are part of what they are used in
        for e in build.within((s,)):
            leaves = _leaves(e, terms)
            found = [(sign, x) for sign, x in leaves if isinstance(x, Local) and x.name in sums]
            if len(found) > 1:
                return _together(body, at, e, leaves, found, sums, terms)
    return None


def _sums(body: Sequence[Stmt]) -> dict[str, _Sum]:
    """The sums that start with 0, of one loop each, that are read once."""
    found: dict[str, _Sum] = {}
    for start, s in enumerate(body):
        if not isinstance(s, Let) or not s.mutable or not isinstance(s.value, Const) or s.value.value:
            continue
        loops = [p for p, b in enumerate(body) if any(a.name == s.name for a in _assigns(b))]
        reads = build.within(body[start + 1 :])
        name = Local(s.name, s.value.dtype)
        if len(loops) == 1 and _is_sum(body[loops[0]], name) and reads.count(name) == 2:  # once by itself
            found[s.name] = _Sum(s.name, start, loops[0])
    return found


def _assigns(s: Stmt) -> list[Assign]:
    return [a for a in build.statements((s,)) if isinstance(a, Assign)]


def _is_sum(s: Stmt, name: Local) -> bool:
    """Whether a statement is a loop that does nothing but add to a scalar, or take from it."""
    if not isinstance(s, For) or not s.body or s.kind != "serial":
        return False
    *before, last = s.body
    if any(not isinstance(b, Let) or b.mutable for b in before) or not isinstance(last, Assign):
        return False
    value = last.value
    return isinstance(value, Binary) and value.operator in _SIGNS and value.a == name and value.b != name


def _terms_of(body: Sequence[Stmt]) -> dict[str, Expr]:
    """Scalars that are a sum or a difference, used once, in an expression behind them; by name."""
    found: dict[str, Expr] = {}
    for at, s in enumerate(body):
        if not isinstance(s, Let) or s.mutable or not isinstance(s.value, Binary) or s.value.operator not in _SIGNS:
            continue
        behind = [(p, e) for p in range(at + 1, len(body)) for e in build.within((body[p],))]
        uses = [p for p, e in behind if isinstance(e, Local) and e.name == s.name]
        if len(uses) != 1 or isinstance(body[uses[0]], For | Nest) or not s.value.dtype.startswith("float"):
            continue
        if not _is_changed(s.value, body[at + 1 : uses[0]]):
            found[s.name] = s.value
    return found


def _is_changed(e: Expr, between: Sequence[Stmt]) -> bool:
    """Whether statements may change a value."""
    inside = build.walk(e)
    assigned = {Local(a.name, e.dtype) for s in between for a in _assigns(s)}
    return any(x in assigned for x in inside) or bool(
        writes(between) & {x.buffer for x in inside if isinstance(x, Load)}
    )


def _leaves(e: Expr, terms: Mapping[str, Expr], sign: int = 1) -> list[Leaf]:
    """What is added and taken in an expression, what stands behind the names of `terms` included."""
    if isinstance(e, Local) and e.name in terms:
        e = terms[e.name]
    if isinstance(e, Binary) and e.operator in _SIGNS and e.dtype.startswith("float"):
        return [*_leaves(e.a, terms, sign), *_leaves(e.b, terms, sign * _SIGNS[e.operator])]
    return [(sign, e)]


def _together(
    body: tuple[Stmt, ...],
    at: int,
    e: Expr,
    leaves: Sequence[Leaf],
    found: Sequence[Leaf],
    sums: Mapping[str, _Sum],
    terms: Mapping[str, Expr],
) -> tuple[Stmt, ...] | None:
    """The body where the sum whose loop comes second goes on with the first, in the expression `e` of a statement."""
    (sign, first), (other, second) = sorted(found, key=lambda leaf: sums[leaf[1].name].loop)[:2]  # type: ignore[union-attr]
    assert isinstance(first, Local) and isinstance(second, Local)
    kept = [leaf for leaf in leaves if leaf[1] != second]
    kept.sort(key=lambda leaf: -leaf[0])  # what is added goes first
    total = kept[0][1] if kept[0][0] > 0 else build.unary("neg", kept[0][1])
    for more, leaf in kept[1:]:
        total = build.add(total, leaf) if more > 0 else build.sub(total, leaf)
    inlined = _inlined(e, terms)
    result: list[Stmt] = []
    for place, s in enumerate(body):
        if place == sums[second.name].start or isinstance(s, Let) and s.name in inlined:
            continue
        if place == sums[second.name].loop:
            assert isinstance(s, For)
            result.append(replace(s, body=(*s.body[:-1], _added(s.body[-1], first, sign * other))))
        elif place == at:
            result.append(build.map_stmt(s, lambda x: total if x == e else None))
        else:
            result.append(s)
    return tuple(result)


def _inlined(e: Expr, terms: Mapping[str, Expr]) -> set[str]:
    """The names whose values an expression of sums and differences takes in."""
    if isinstance(e, Local) and e.name in terms:
        return {e.name} | _inlined(terms[e.name], terms)
    if isinstance(e, Binary) and e.operator in _SIGNS and e.dtype.startswith("float"):
        return _inlined(e.a, terms) | _inlined(e.b, terms)
    return set()


def _added(s: Stmt, name: Local, sign: int) -> Stmt:
    """The addition of a term to another sum, or with the other sign."""
    assert isinstance(s, Assign) and isinstance(s.value, Binary)
    plus = _SIGNS[s.value.operator] == sign
    return Assign(name.name, (build.add if plus else build.sub)(name, s.value.b))
