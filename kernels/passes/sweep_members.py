"""Loop nests as members of one sweep over rows: what of a nest runs row by row, what before the sweep and what behind.

A nest that makes its results row by row is a member as it stands. One that sums over the rows,

    for c: acc = start; for i: acc += t[i, c] u[i]; y[c] = f(acc)
is one once its sums have a buffer of their own:
    for c: s[c] = start    |    for c: acc = s[c]; for i: acc += t[i, c] u[i]; s[c] = acc    |    for c: y[c] = f(s[c])
The sums are taken over the rows in the same order as before, so whatever the step of the sum computes stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses, reads, writes
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var

Fresh = Callable[[str], str]


@dataclass(frozen=True)
class Member:
    """A nest of a part, at position `place`, in three pieces.

    `start` runs before the sweep, `inside` holds the loop `row` over all rows, of which the sweep runs a few at a time,
    `finish` stays where the nest was. `sums` are the buffers between the pieces.
    """

    place: int
    origins: tuple[str, ...]
    row: str
    inside: tuple[Stmt, ...]
    start: tuple[Stmt, ...] = ()
    finish: tuple[Stmt, ...] = ()
    sums: Mapping[str, Buffer] = field(default_factory=dict)

    def axes(self, buffer: str) -> set[int] | None:
        """The axes along which the rows of the sweep are those of the buffer; None where it is not touched inside."""
        found = [a.indices for a in accesses(self.inside) if a.buffer == buffer]
        if not found:
            return None
        return {p for p in range(len(found[0])) if all(indices[p] == Var(self.row) for indices in found)}


def row_members(nest: Nest, place: int) -> list[Member]:
    """The nest with each loop over its results as the loop over the rows, as far as that may be the outermost one."""
    loops, inner = _chain(nest.body)
    found = []
    for depth, loop in enumerate(loops):
        if not isinstance(loop.extent, int) or (depth and not _may_change_places(loops[: depth + 1], inner)):
            break
        rest = [*loops[:depth], *loops[depth + 1 :]]
        found.append(Member(place, nest.origins, loop.var, build.around([loop, *rest], inner)))
    return found


def sum_member(nest: Nest, place: int, swept: Collection[str], rows: int, fresh: Fresh) -> Member | None:
    """The nest as one that sums over the rows of the buffers in `swept`; None where it is of another form.

    The axis of a sum's buffer along which a row lies contiguous comes last.
    """
    loops, inner = _chain(nest.body)
    at = next((i for i, s in enumerate(inner) if isinstance(s, For)), None)
    if at is None or any(not isinstance(loop.extent, int) for loop in loops):
        return None
    over, behind = inner[at], inner[at + 1 :]
    declared = [s for s in inner[:at] if isinstance(s, Let)]
    if not isinstance(over, For) or over.extent != rows or len(declared) < at or not _reads_rows(over, swept):
        return None
    totals = _totals(over, declared)
    if totals is None:
        return None
    others = [s for s in declared if s not in totals]
    column = _column(over, swept, loops)
    shape = sorted(loops, key=lambda loop: loop.var == column)
    where: tuple[Expr, ...] = tuple(Var(loop.var) for loop in shape) or (build.ZERO,)
    sizes = tuple(loop.extent for loop in shape if isinstance(loop.extent, int)) or (1,)
    buffers = {s.name: Buffer(fresh(f"s_{s.name}"), s.value.dtype, sizes, "scratch") for s in totals}
    load = {s.name: Load(buffers[s.name].name, where, s.value.dtype) for s in totals}

    first = [Store(buffers[s.name].name, where, s.value) for s in totals]
    taken = [Let(s.name, load[s.name], mutable=True) for s in totals]
    kept = [Store(buffers[s.name].name, where, Local(s.name, s.value.dtype)) for s in totals]
    changed = {s.name for s in build.statements(behind) if isinstance(s, Assign)}
    final = [Let(s.name, load[s.name], mutable=s.name in changed) for s in totals]
    result = Member(
        place,
        nest.origins,
        over.var,
        inside=build.around(shape, (*_used(others, (over,)), *taken, over, *kept)),
        start=build.around(shape, (*_used(others, first), *first)),
        finish=build.around(loops, (*_used(others, behind), *final, *behind)),
        sums={b.name: b for b in buffers.values()},
    )
    early = reads(result.start) | reads(result.inside)
    return None if early & (writes(result.finish) - result.sums.keys()) else result


def _chain(body: tuple[Stmt, ...]) -> tuple[list[For], tuple[Stmt, ...]]:
    """The loops that hold nothing but the next one, and what the last of them runs."""
    loops = []
    while len(body) == 1 and isinstance(body[0], For):
        loops.append(body[0])
        body = body[0].body
    return loops, body


def _may_change_places(loops: Sequence[For], inner: tuple[Stmt, ...]) -> bool:
    """Whether each run writes elements of its own and reads of what is written no other ones."""
    if any(not isinstance(s.extent, int) for s in build.statements(inner) if isinstance(s, For)):
        return False
    found = accesses(inner)
    written: dict[str, tuple[Expr, ...]] = {a.buffer: a.indices for a in found if a.stored}
    own = all(Var(loop.var) in indices for loop in loops for indices in written.values())
    return own and all(a.indices == written[a.buffer] for a in found if a.buffer in written)


def _reads_rows(over: For, swept: Collection[str]) -> bool:
    return any(a.buffer in swept and Var(over.var) in a.indices for a in accesses((over,)))


def _totals(over: For, declared: Sequence[Let]) -> list[Let] | None:
    """The scalars that the loop sums in, or None where it does anything else to what is around it."""
    inside = build.statements(over.body)
    own = {s.name for s in inside if isinstance(s, Let)}
    changed = {s.name for s in inside if isinstance(s, Assign)} - own
    totals = [s for s in declared if s.name in changed]
    plain = [s for s in declared if s.name not in changed]
    if not totals or len(totals) < len(changed) or any(s.mutable for s in plain):
        return None
    if any(isinstance(s, Store) for s in inside) or _names(declared) & changed:
        return None
    return totals


def _column(over: For, swept: Collection[str], loops: Sequence[For]) -> str:
    """The variable of the loop along which the elements of a row lie one behind the other."""
    last = [a.indices[-1] for a in accesses((over,)) if a.buffer in swept]
    return next((loop.var for loop in loops if Var(loop.var) in last), "")


def _names(body: Iterable[Stmt]) -> set[str]:
    """The scalars that the statements read."""
    return {e.name for e in build.within(body) if isinstance(e, Local)}


def _used(declared: Sequence[Let], body: Sequence[Stmt]) -> tuple[Let, ...]:
    """The declarations that the statements need, directly or through others."""
    kept: list[Let] = []
    wanted = _names(body)
    for s in reversed(declared):
        if s.name in wanted:
            kept.append(s)
            wanted |= _names((s,))
    return tuple(reversed(kept))
