"""Gives products with large weights nests of their own, and joins what is left of the nests around them.

    for i: acc = 0; for j: acc += w[i, j] x[j]; y[i] = f(acc)
becomes
    for i: acc = 0; for j: acc += w[i, j] x[j]; p[i] = acc
    for i: y[i] = f(p[i])
The program computes what it did, to the order of sums; `product_of` recognises the nests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.gpu.parallel import is_parallel
from unfoldc.kernels.gpu.product import Term, product_of, term_of
from unfoldc.kernels.index_bounds import Ranges, loop_range
from unfoldc.kernels.loops import (
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
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.passes.fuse_results import chain, fuse_results


def split_products(program: LoopProgram, shared: Collection[str], least: int) -> LoopProgram:
    """The program with products apart whose weights, of a buffer in `shared`, are at least `least` elements."""
    buffers = dict(program.buffers)
    split = program.mapped(lambda body: _part(body, buffers, shared, least))
    return replace(split, buffers=buffers)


def _part(body: Sequence[Stmt], buffers: dict[str, Buffer], shared: Collection[str], least: int) -> tuple[Stmt, ...]:
    apart: list[Stmt] = []
    for s in body:
        work = _Nest(buffers, shared, least)
        apart += work.split(s)
    return _rest_joined(apart, buffers, shared, least)


def _rest_joined(
    body: Sequence[Stmt], buffers: Mapping[str, Buffer], shared: Collection[str], least: int
) -> tuple[Stmt, ...]:
    """What stands between products joined, so that values stay in registers where that is possible."""
    pieces: list[list[Stmt]] = [[]]
    for s in body:
        if product_of(s, buffers, shared, least) is None:
            pieces[-1].append(s)
        else:
            pieces += [[s], []]
    result: list[Stmt] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            result += piece
            continue
        read = set().union(*(reads(other) for other in pieces if other is not piece))
        kept = {n: replace(b, space="state") if n in read and b.space == "scratch" else b for n, b in buffers.items()}
        result += fuse_results(piece, kept)
    return tuple(result)


@dataclass
class _Nest:
    """The work on one nest; `before` collects what goes in front of it."""

    buffers: dict[str, Buffer]
    shared: Collection[str]
    least: int
    origins: tuple[str, ...] = ()
    loops: list[For] = field(default_factory=list)
    before: list[Stmt] = field(default_factory=list)

    def split(self, s: Stmt) -> list[Stmt]:
        """The statements that take the place of a nest."""
        loops = chain(s)
        if loops is None or not _independent(loops):
            return [s]
        self.origins, self.loops = s.origins if isinstance(s, Nest) else (), loops
        body: list[Stmt] = []
        for inner in loops[-1].body:
            term = term_of(inner, self.shared)
            at = self._product(inner, term) if term is not None and isinstance(inner, For) else None
            if term is None or at is None:
                body.append(inner)
            else:
                body.append(Assign(term.sum, Binary("add", Local(term.sum, term.w.dtype), at, term.w.dtype)))
        if not self.before:
            return [s]
        rest = self._into_its_place(self._added_up(_plain(body)))
        return [*self.before, *([Nest(self.origins, (_around(loops, rest),))] if rest else [])]

    def _product(self, loop: For, term: Term) -> Load | None:
        """Puts the product of a sum in front; where its results are read. None where it is to stay.

        The runs of the nest's loops are independent, so that none reads in a sum what another one writes.
        """
        results = [r for r in self.loops if Var(r.var) in build.walk(term.w)]
        parts = [e for top in (term.x, *(s.value for s in term.before)) for e in build.walk(top)]
        own = {s.name for s in term.before}
        loads = {e.buffer for e in parts if isinstance(e, Load)}
        if len(results) != 1 or Var(results[0].var) in parts or loads <= set(self.shared):
            return None
        if any(isinstance(e, Local) and e.name not in own for e in parts):
            return None
        (i,) = results
        if not isinstance(i.extent, int) or not isinstance(loop.extent, int) or i.extent * loop.extent < self.least:
            return None
        leads = [r for r in self.loops if r is not i and Var(r.var) in parts]
        name = self._fresh("p", [*leads, i], term.w.dtype)
        at = Load(name, tuple(Var(r.var) for r in (*leads, i)), term.w.dtype)
        nest = self._nest(leads, i, loop, term, term.x, at)
        if term.before or product_of(nest, self.buffers, self.shared) is None:
            copied = Load(
                self._fresh("x", [*leads, loop], term.w.dtype), tuple(Var(r.var) for r in (*leads, loop)), term.w.dtype
            )  # fmt: skip
            nest = self._nest(leads, i, loop, term, copied, at)
            if product_of(nest, self.buffers, self.shared) is None:
                return None
            fill: tuple[Stmt, ...] = (*term.before, Store(copied.buffer, copied.indices, term.x))
            self.before.append(Nest(self.origins, (_around([*leads, loop], fill),)))
        self.before.append(nest)
        return at

    def _nest(self, leads: Sequence[For], i: For, loop: For, term: Term, x: Expr, at: Load) -> Nest:
        acc = Local(term.sum, at.dtype)
        operator = "add" if term.sign > 0 else "sub"
        step = Assign(term.sum, Binary(operator, acc, Binary("mul", x, term.w, at.dtype), at.dtype))
        total = (
            Let(term.sum, Const(0.0, at.dtype), mutable=True),
            replace(loop, body=(step,)),
            Store(at.buffer, at.indices, acc),
        )
        return Nest(self.origins, (_around([*leads, i], total),))

    def _added_up(self, body: list[Stmt]) -> list[Stmt]:
        """Where two products are added, the second is added to the first right away."""
        made = {s.name: s.value for s in body if isinstance(s, Let) and self._is_product(s.value)}
        for place, s in enumerate(body):
            for e in (e for top in build.expressions(s) for e in build.walk(top)):
                match e:
                    case Binary(("add" | "sub") as operator, Local(a), Local(b)) if {a, b} <= made.keys() and a != b:
                        first, second = made[a], made[b]
                        assert isinstance(first, Load) and isinstance(second, Load)
                        same = first.indices == second.indices and _uses(body, a) == _uses(body, b) == 1
                        if same and self._add_to(first, second, operator):
                            body[place] = build.map_stmt(s, _replacing(e, Local(a, e.dtype)))
                            return self._added_up([x for x in body if not (isinstance(x, Let) and x.name == b)])
        return body

    def _is_product(self, e: Expr) -> bool:
        return isinstance(e, Load) and any(e.buffer in writes((s,)) for s in self.before)

    def _add_to(self, first: Load, second: Load, operator: str) -> bool:
        """Has the product that fills `second` add to `first`, which comes before or is brought there."""
        one, two = (next(i for i, s in enumerate(self.before) if e.buffer in writes((s,))) for e in (first, second))
        nest = self.before[two]
        assert isinstance(nest, Nest)

        def change(s: Stmt) -> Stmt:
            if isinstance(s, For | Nest):
                return replace(s, body=tuple(map(change, s.body)))
            if isinstance(s, Let):
                return replace(s, value=first)
            if isinstance(s, Assign) and isinstance(s.value, Binary) and operator == "sub":
                return Assign(s.name, replace(s.value, operator="sub" if s.value.operator == "add" else "add"))
            return Store(first.buffer, first.indices, s.value) if isinstance(s, Store) else s

        added = change(nest)
        if self.buffers[first.buffer].shape != self.buffers[second.buffer].shape:
            return False
        if product_of(added, self.buffers, self.shared) is None:
            return False
        del self.buffers[second.buffer]
        self.before[two] = added
        if two < one:  # what starts the sum comes first
            self.before.insert(one, self.before.pop(two))
        return True

    def _into_its_place(self, body: list[Stmt]) -> list[Stmt]:
        """Nothing, where all that is left is to store a product, which then goes there by itself."""
        match body:
            case [Let(name, Load() as value), Store(out, at, Local(stored))] if name == stored:
                pass
            case _:
                return body
        makers = [i for i, s in enumerate(self.before) if value.buffer in writes((s,))]

        def change(s: Stmt) -> Stmt:
            if isinstance(s, For | Nest):
                return replace(s, body=tuple(map(change, s.body)))
            if isinstance(s, Store):
                return replace(s, buffer=out, indices=at)
            return build.map_stmt(s, lambda e: Load(out, at, value.dtype) if e == value else None)

        moved = {i: change(self.before[i]) for i in makers}
        known = {loop.var for loop in self.loops}
        used = {loop.var for s in moved.values() for loop in build.statements((s,)) if isinstance(loop, For)}
        if not known <= used or any(product_of(s, self.buffers, self.shared) is None for s in moved.values()):
            return body
        for i, s in moved.items():
            self.before[i] = s
        del self.buffers[value.buffer]
        return []

    def _fresh(self, prefix: str, loops: Sequence[For], dtype: str) -> str:
        number = 0
        while f"{prefix}{number}" in self.buffers:
            number += 1
        name = f"{prefix}{number}"
        shape = tuple(loop.extent for loop in loops if isinstance(loop.extent, int))
        self.buffers[name] = Buffer(name, dtype, shape, "scratch")
        return name


def _plain(body: Sequence[Stmt]) -> list[Stmt]:
    """A sum that starts from 0 and to which one product is added is that product."""
    result: list[Stmt] = []
    changed = [s.name for s in build.statements(tuple(body)) if isinstance(s, Assign)]
    for s in body:
        match s:
            case Assign(name, Binary("add", Local(), Load() as value)) if changed.count(name) == 1 and result:
                before = result[-1]
                if isinstance(before, Let) and before.name == name and before.value == Const(0.0, value.dtype):
                    result[-1] = Let(name, value)
                    continue
        result.append(s)
    return result


def _independent(loops: Sequence[For]) -> bool:
    ranges: Ranges = {}
    for loop in loops:
        if not is_parallel(loop, ranges):
            return False
        ranges = {**ranges, loop.var: loop_range(loop)}
    return True


def _replacing(old: Expr, new: Expr) -> Callable[[Expr], Expr | None]:
    return lambda e: new if e == old else None


def _uses(body: Sequence[Stmt], name: str) -> int:
    tops = [top for s in body for top in build.expressions(s)]
    return sum(isinstance(e, Local) and e.name == name for top in tops for e in build.walk(top))


def _around(loops: Sequence[For], body: Sequence[Stmt]) -> Stmt:
    inner = tuple(body)
    for loop in reversed(loops):
        inner = (replace(loop, body=inner),)
    return inner[0]
