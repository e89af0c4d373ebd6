"""Two result forms as one, with what each reads and stores in one half of a matrix of twice the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Binary, Buffer, Cast, Const, Expr, For, Load, Local, Select, Unary, Var
from unfoldc.kernels.passes.result_form import ResultForm, Sum, with_loops
from unfoldc.kernels.passes.vector_axis import LARGEST_TWIN

_SIGNS = "signs"
_MOST_TERMS = 4  # of a sum that are tried in every order
_COMMUTE = ("add", "mul", "min", "max")


class Unlike(Exception):
    """The two do not do the same, or not with matrices that can stand side by side."""


@dataclass(frozen=True)
class Copy:
    """A copy, made in `begin`, of two matrices side by side that iterations only read."""

    name: str
    loops: tuple[For, ...]
    sources: tuple[Load, Load]


@dataclass
class Matrices:
    """The buffers of a program, and which stand side by side.

    `halves` gives the name of both and which half one is. `fixed` are those that no iteration writes, of which `copies`
    may be made. `signs` are the names of constants of ones and minus ones, for rows of a width and a type.
    """

    buffers: dict[str, Buffer]
    fixed: frozenset[str]
    halves: dict[str, tuple[str, int]] = field(default_factory=dict)
    copies: dict[tuple[Load, Load], Copy] = field(default_factory=dict)
    signs: dict[tuple[int, str], str] = field(default_factory=dict)

    def saved(self) -> Matrices:
        """What stands side by side now."""
        return replace(self, halves=dict(self.halves), copies=dict(self.copies), signs=dict(self.signs))

    def restore(self, before: Matrices) -> None:
        """Forgets what came since."""
        self.halves, self.copies, self.signs = before.halves, before.copies, before.signs


@dataclass
class Join:
    """Makes one form of two; `new` says whether further buffers may be put side by side."""

    matrices: Matrices
    a: ResultForm
    b: ResultForm
    new: bool
    sums: dict[str, Sum] = field(default_factory=dict)
    partner: dict[str, str] = field(default_factory=dict)

    @property
    def column(self) -> Var:
        """The loop along which rows are joined."""
        return Var(self.a.loops[-1].var)

    @property
    def width(self) -> int:
        """The length of one row."""
        extent = self.a.loops[-1].extent
        assert isinstance(extent, int)
        return extent

    def form(self) -> ResultForm:
        """Both at once."""
        value = self.both(self.a.value, self.b.value)
        stored = Load(self.a.buffer, self.a.indices, value.dtype), Load(self.b.buffer, self.b.indices, value.dtype)
        target = self.side_by_side(*stored)
        if target is None or target.indices[-1] != self.column:
            raise Unlike
        loops = (*self.a.loops[:-1], replace(self.a.loops[-1], extent=2 * self.width))
        origins = tuple(dict.fromkeys((*self.a.origins, *self.b.origins)))
        return ResultForm(origins, loops, self.sums, target.buffer, target.indices, value)

    def both(self, a: Expr, b: Expr, summed: bool = False) -> Expr:
        """The value of both halves; `summed`: it is a term of a sum."""
        if a == b and self.column not in build.walk(a) and not any(isinstance(e, Local) for e in build.walk(a)):
            return a
        match a, b:
            case Local(), Local():
                return self.sum(a, b)
            case Load(), Load():
                found = self.side_by_side(a, b) or (None if summed else self.copied(a, b))
                if found is None:
                    raise Unlike
                return found
            case Binary("add" | "sub"), Binary("add" | "sub") if a.dtype.startswith("float"):
                return self.total(_terms(a, 1), _terms(b, 1), summed)
            case Binary(operator, c, d, dtype), Binary(other, e, f, _) if operator == other and dtype == b.dtype:
                if operator in _COMMUTE and (c == f or d == e) and c != e and d != f:
                    e, f = f, e
                return Binary(operator, self.both(c, e, summed), self.both(d, f, summed), dtype)
            case Unary(operator, c, dtype), Unary(other, e, _) if operator == other:
                return Unary(operator, self.both(c, e, summed), dtype)
            case Cast(c, dtype), Cast(e, other) if dtype == other:
                return Cast(self.both(c, e, summed), dtype)
            case Select(c, d, e, dtype), Select(f, g, h, _):
                return Select(self.both(c, f, summed), self.both(d, g, summed), self.both(e, h, summed), dtype)
        raise Unlike

    def sum(self, a: Local, b: Local) -> Local:
        """Two sums over loops of the same lengths."""
        if self.partner.setdefault(a.name, b.name) != b.name:
            raise Unlike
        if a.name not in self.sums:
            one, other = self.a.sums[a.name], self.b.sums[b.name]
            if one.start != other.start or [s.extent for s in one.loops] != [s.extent for s in other.loops]:
                raise Unlike
            term = self.both(one.term, with_loops(other.term, other.loops, one.loops), summed=True)
            self.sums[a.name] = replace(one, term=term)
        return a

    def total(self, a: Sequence[tuple[int, Expr]], b: Sequence[tuple[int, Expr]], summed: bool) -> Expr:
        """A sum of terms, in the order of the first; where their signs differ, the second half's are turned."""
        if len(a) != len(b):
            raise Unlike
        matrices = self.matrices
        for order in permutations(b) if len(b) <= _MOST_TERMS else [b]:
            before, sums, partner = matrices.saved(), dict(self.sums), dict(self.partner)
            try:
                terms = [self.signed(x, y, summed) for x, y in zip(a, order, strict=True)]
            except Unlike:
                matrices.restore(before)
                self.sums, self.partner = sums, partner
                continue
            return _added(terms)
        raise Unlike

    def signed(self, a: tuple[int, Expr], b: tuple[int, Expr], summed: bool) -> tuple[int, Expr]:
        """One term of both totals, with the sign of the first."""
        value = self.both(a[1], b[1], summed)
        if a[0] == b[0]:
            return a[0], value
        if summed:
            raise Unlike
        name = self.matrices.signs.setdefault((self.width, value.dtype), f"{_SIGNS}{len(self.matrices.signs)}")
        return a[0], build.mul(value, Load(name, (self.column,), value.dtype))

    def side_by_side(self, a: Load, b: Load) -> Load | None:
        """The two in the halves of one buffer, whose name it becomes; the second may come first there."""
        if a.indices[-1:] != (self.column,) or a.indices != b.indices or a.buffer == b.buffer:
            return None
        if any(self.column in build.walk(i) for i in a.indices[:-1]):
            return None
        halves, buffers = self.matrices.halves, self.matrices.buffers
        x, y = buffers[a.buffer], buffers[b.buffer]
        if x.space not in ("state", "scratch") or replace(y, name=x.name) != x or x.shape[-1] != self.width:
            return None
        if a.buffer not in halves and b.buffer not in halves and self.new:
            name = f"{a.buffer}_{b.buffer}"
            halves[a.buffer], halves[b.buffer] = (name, 0), (name, 1)
        first, second = halves.get(a.buffer), halves.get(b.buffer)
        if first is None or second is None or first[0] != second[0]:
            return None
        column: Expr = self.column
        if first[1]:
            column = build.binary("mod", build.add(column, build.index(self.width)), build.index(2 * self.width))
        return Load(first[0], (*a.indices[:-1], column), a.dtype)

    def copied(self, a: Load, b: Load) -> Load | None:
        """The two in a copy that begin makes, where no iteration writes them."""
        names = {e.name for load in (a, b) for i in load.indices for e in build.walk(i) if isinstance(e, Var)}
        plain = all(isinstance(i, Var | Const) for load in (a, b) for i in load.indices)
        loops = tuple(s for s in self.a.loops if s.var in names)
        if not plain or not {a.buffer, b.buffer} <= self.matrices.fixed or names != {s.var for s in loops}:
            return None
        if not loops or loops[-1].var != self.column.name or a.dtype != b.dtype:
            return None
        size = 2 * np.dtype(a.dtype).itemsize * int(np.prod([s.extent for s in loops if isinstance(s.extent, int)]))
        if size > LARGEST_TWIN:
            return None
        copies = self.matrices.copies
        copy = copies.setdefault((a, b), Copy(f"pair_{len(copies)}", loops, (a, b)))
        return Load(copy.name, tuple(Var(s.var) for s in loops), a.dtype)


def _terms(e: Expr, sign: int) -> list[tuple[int, Expr]]:
    """The terms of sums and differences, with their signs."""
    if isinstance(e, Binary) and e.operator in ("add", "sub"):
        return [*_terms(e.a, sign), *_terms(e.b, sign if e.operator == "add" else -sign)]
    return [(sign, e)]


def _added(terms: Sequence[tuple[int, Expr]]) -> Expr:
    sign, total = terms[0]
    total = total if sign > 0 else build.unary("neg", total)
    for sign, term in terms[1:]:
        total = build.add(total, term) if sign > 0 else build.sub(total, term)
    return total
