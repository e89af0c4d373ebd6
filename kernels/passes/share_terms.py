"""Takes sums over the same terms in one loop, so that a number which several of them multiply is loaded once.

    for i: for c: a = 0; for j: a += hr[i, j] xr[j, c]; for j: a -= hi[i, j] xi[j, c]; yr[i, c] = a
    for i: for c: b = 0; for j: b += hr[i, j] xi[j, c]; for j: b += hi[i, j] xr[j, c]; yi[i, c] = b
becomes
    for i: for c: a = b = 0; for j: p = hr[i, j]; q = xr[j, c]; ..; a += p q; a -= r s; b += p s; b += r q; ..
as the product of complex matrices is written, or two products with the same vector. Nests over the same results are
joined for it, where registers will hold the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.loops import Assign, Const, Expr, For, Let, Load, Local, LoopProgram, Nest, Stmt, Var
from unfoldc.kernels.passes.fuse_results import chain, joined

_MOST_SUMS = 2  # for each result; eight results at a time make sixteen, of 32 registers


def share_terms(program: LoopProgram) -> LoopProgram:
    """The program with such nests and loops in each of its parts."""
    return program.mapped(lambda body: tuple(_in_one(s) for s in _nests_joined(body)))


def _nests_joined(body: Sequence[Stmt]) -> list[Stmt]:
    """Nests that follow each other and share terms of their sums as one."""
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For) and all(isinstance(b, Nest) for b in s.body):
            s = replace(s, body=tuple(_nests_joined(s.body)))
        both = joined(result[-1], s, sums=True) if result else None
        if both is not None and _fewer_loops(result[-1], s, both):
            result[-1] = both
        else:
            result.append(s)
    return result


def _fewer_loops(first: Stmt, second: Stmt, both: Nest) -> bool:
    """Whether sums of two nests run in one loop when the nests are one, and are few enough."""
    inside = chain(both)
    if inside is None or sum(isinstance(s, Let) and s.mutable for s in inside[-1].body) > _MOST_SUMS:
        return False
    names = [s.name for s in build.statements(inside[-1].body) if isinstance(s, Let)]
    if len(set(names)) < len(names):
        return False
    return _loops(_in_one(both)) < _loops(_in_one(first)) + _loops(_in_one(second))


def _loops(s: Stmt) -> int:
    return sum(isinstance(b, For) and _is_sum(b) for b in build.statements((s,)))


def _is_sum(s: Stmt) -> bool:
    """Whether a statement is a loop of fixed length that does nothing but add up."""
    if not isinstance(s, For) or not isinstance(s.extent, int) or s.kind != "serial":
        return False
    plain = all(isinstance(b, Assign) or (isinstance(b, Let) and not b.mutable) for b in s.body)
    return plain and any(isinstance(b, Assign) for b in s.body)


def _in_one(s: Stmt) -> Stmt:
    """The statement with sums inside that share terms in one loop."""
    if not isinstance(s, For | Nest):
        return s
    body = tuple(_in_one(b) for b in s.body)
    place = 0
    while place < len(body):
        merged = _with_a_later_one(body, place)
        if merged is None:
            place += 1
        else:
            body = merged
    return replace(s, body=body)


def _with_a_later_one(body: tuple[Stmt, ...], place: int) -> tuple[Stmt, ...] | None:
    """The body with the sum at a place and a later one in one loop; None where none can be."""
    first = body[place]
    if not isinstance(first, For) or not _is_sum(first):
        return None
    for other in range(place + 1, len(body)):
        second = body[other]
        if not isinstance(second, For) or not _is_sum(second) or second.extent != first.extent:
            continue
        moved = tuple(build.substitute(b, second.var, Var(first.var)) for b in second.body)
        if not _terms(first.body) & _terms(moved) or not _may_move(body[place + 1 : other], second):
            continue
        starts = tuple(s for s in body[place + 1 : other] if _starts(s, second))
        between = tuple(s for s in body[place + 1 : other] if not _starts(s, second))
        loop = replace(first, body=_loading_once((*first.body, *moved)))
        return (*body[:place], *starts, loop, *between, *body[other + 1 :])
    return None


def _terms(body: Sequence[Stmt]) -> set[Expr]:
    """What is loaded in the statements."""
    return set(build.loads(body))


def _starts(s: Stmt, loop: For) -> bool:
    """Whether a statement is where a sum of the loop starts."""
    sums = {a.name for a in loop.body if isinstance(a, Assign)}
    return isinstance(s, Let) and s.name in sums and isinstance(s.value, Const)


def _may_move(between: Sequence[Stmt], loop: For) -> bool:
    """Whether a loop gives the same before these statements, but for those where its sums start."""
    sums = {a.name for a in loop.body if isinstance(a, Assign)}
    declared = {s.name for s in loop.body if isinstance(s, Let)}
    read = {e.name for e in build.within(loop.body) if isinstance(e, Local)}
    rest = [s for s in between if not _starts(s, loop)]
    inside = build.statements(tuple(rest))
    made = {s.name for s in inside if isinstance(s, Let | Assign)}
    used = {e.name for e in build.within(rest) if isinstance(e, Local)}
    if made & (read | sums) - declared or used & sums:
        return False
    return not writes(rest) & reads((loop,))


def _loading_once(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The statements with what several of them load in scalars, loaded first."""
    loads = build.loads(body)
    shared = [e for e in dict.fromkeys(loads) if loads.count(e) > 1]
    taken = {s.name for s in body if isinstance(s, Let | Assign)}
    names: dict[Load, Local] = {}
    for e in shared:
        number = len(names)
        while f"{e.buffer}_term{number}" in taken:
            number += 1
        names[e] = Local(f"{e.buffer}_term{number}", e.dtype)
        taken.add(names[e].name)
    lets = [Let(name.name, e) for e, name in names.items()]
    rest = [build.map_stmt(s, lambda e: names.get(e) if isinstance(e, Load) else None) for s in body]
    return (*lets, *rest)
