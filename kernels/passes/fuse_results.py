"""Joins loop nests over the same results, one of which computes with what the other made at the same place.

    for i: t[i] = f(i)
    for i: u[i] = g(t[i])
becomes
    for i: v = f(i); t[i] = v; u[i] = g(v)
so that v stays in a register: in a short solver the way through memory takes longer than the arithmetic. Nests that
read the same also join; what nobody reads any more is not stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses, reads, writes
from unfoldc.kernels.index_bounds import Ranges, loop_range
from unfoldc.kernels.loops import Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.block_rows import rows_are_independent


def results_fused(program: LoopProgram) -> LoopProgram:
    """The program with `fuse_results` in each of its parts."""
    return program.mapped(lambda body: fuse_results(body, program.buffers))


def fuse_results(body: Sequence[Stmt], buffers: Mapping[str, Buffer]) -> tuple[Stmt, ...]:
    """Joins each nest without sums to one before it, where no run of the loops meets what another run writes.

    So it does in loops over nests. It may pass over nests that have nothing to do with it.
    """
    return storing_what_is_read(_fused(body), buffers)


def storing_what_is_read(body: Sequence[Stmt], buffers: Mapping[str, Buffer]) -> tuple[Stmt, ...]:
    """The statements of a part without stores to scratch that nothing in it reads."""
    wanted = reads(body) | {name for name, b in buffers.items() if b.space != "scratch"}
    return tuple(_storing(s, wanted) for s in body)


def _fused(body: Sequence[Stmt]) -> list[Stmt]:
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For) and all(isinstance(b, Nest) for b in s.body):
            s = replace(s, body=tuple(_fused(s.body)))
        place, both = _place(result, s)
        if both is None:
            result.append(s)
        else:
            result[place] = both
    return result


def _place(before: Sequence[Stmt], s: Stmt) -> tuple[int, Nest | None]:
    """The last statement that the nest can join, and the two as one."""
    for place in reversed(range(len(before))):
        other = before[place]
        both = joined(other, s)
        if both is not None:
            return place, both
        if writes((other,)) & (reads((s,)) | writes((s,))) or reads((other,)) & writes((s,)):
            break
    return -1, None


def joined(first: Stmt, second: Stmt, sums: bool = False) -> Nest | None:
    """Two nests over the same results as one; None where they are not or may not. The second has loops only if `sums`.

    The two have no scalars of the same name.
    """
    a, b = chain(first), chain(second)
    if a is None or b is None or [s.extent for s in a] != [s.extent for s in b] or not _share(a, b):
        return None
    if not sums and any(isinstance(s, For) for s in b[-1].body):
        return None
    names = {old.var: new.var for old, new in zip(b, a, strict=True)}

    def change(e: Expr) -> Expr | None:
        return Var(names[e.name]) if isinstance(e, Var) and e.name in names else None

    moved = tuple(build.map_stmt(s, change) for s in b[-1].body)
    inner = _forwarded((*a[-1].body, *moved))
    loops: list[For] = []
    for s in reversed(a):
        loops.append(replace(s, body=inner))
        inner = (loops[-1],)
    ranges: Ranges = {}
    for loop in reversed(loops):
        if not rows_are_independent(loop, ranges):
            return None
        ranges = {**ranges, loop.var: loop_range(loop)}
    origins = [o for s in (first, second) if isinstance(s, Nest) for o in s.origins]
    return Nest(tuple(dict.fromkeys(origins)), inner)


def chain(s: Stmt) -> list[For] | None:
    """The loops directly inside one another, of fixed length, around what stores results; None for other statements."""
    body: tuple[Stmt, ...] = s.body if isinstance(s, Nest) else (s,)
    loops: list[For] = []
    while len(body) == 1 and isinstance(body[0], For) and isinstance(body[0].extent, int) and body[0].kind == "serial":
        loops.append(body[0])
        body = body[0].body
    if not loops or any(isinstance(x, Nest) for x in body) or not any(isinstance(x, Store) for x in body):
        return None
    return loops


def _share(a: list[For], b: list[For]) -> bool:
    """Whether the second reads elements, one in each run, of what the first reads or stores."""
    touched = {x.buffer for x in accesses(a[-1].body) if _vary(x.indices)}
    return any(x.buffer in touched and not x.stored and _vary(x.indices) for x in accesses(b[-1].body))


def _vary(indices: Sequence[Expr]) -> bool:
    return any(isinstance(e, Var) for i in indices for e in build.walk(i))


def _forwarded(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body with each value that is stored and read again at the same place in a scalar."""
    known: dict[Load, Local] = {}
    result: list[Stmt] = []
    for s in body:
        s = build.map_stmt(s, lambda e: known.get(e) if isinstance(e, Load) else None)
        if isinstance(s, Store):
            load = Load(s.buffer, s.indices, s.value.dtype)
            if not isinstance(s.value, Local):
                name = f"{s.buffer}_at"
                while any(isinstance(x, Let) and x.name == name for x in result):
                    name += "_"
                result.append(Let(name, s.value))
                s = replace(s, value=Local(name, s.value.dtype))
            known[load] = s.value  # type: ignore[assignment]
        result.append(s)
    return tuple(result)


def _storing(s: Stmt, wanted: Collection[str]) -> Stmt:
    """The statement without stores to any but these buffers; a loop keeps at least one statement."""
    if not isinstance(s, For | Nest):
        return s
    kept = tuple(_storing(b, wanted) for b in s.body if not isinstance(b, Store) or b.buffer in wanted)
    return replace(s, body=kept or s.body)
