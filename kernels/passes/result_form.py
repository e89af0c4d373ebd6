"""A loop nest as one formula for its results: sums over further loops, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, Expr, For, Let, Local, Nest, Stmt, Store, Var

_LONGEST = 100  # expressions in a formula, in which scalars used twice stand twice


@dataclass(frozen=True)
class Sum:
    """`start` and the values of `term` for all runs of `loops`, added up."""

    start: Expr
    loops: tuple[For, ...]
    term: Expr


@dataclass(frozen=True)
class ResultForm:
    """`buffer[indices] = value` for all runs of `loops`, if there are any; the scalars of `value` are `sums`."""

    origins: tuple[str, ...]
    loops: tuple[For, ...]
    sums: Mapping[str, Sum]
    buffer: str
    indices: tuple[Expr, ...]
    value: Expr

    def nest(self) -> Nest:
        """The statements; sums over loops of the same lengths grow together, so that more of them are under way."""
        body: list[Stmt] = []
        together: dict[tuple[int | Expr, ...], list[str]] = {}
        for name, s in self.sums.items():
            together.setdefault(tuple(loop.extent for loop in s.loops), []).append(name)
        for names in together.values():
            loops = self.sums[names[0]].loops
            body += [Let(name, self.sums[name].start, mutable=True) for name in names]
            inner: tuple[Stmt, ...] = tuple(_grown(name, self.sums[name], loops) for name in names)
            body += around(loops, inner)
        body.append(Store(self.buffer, self.indices, self.value))
        return Nest(self.origins, around(self.loops, tuple(body)))

    def renamed(self, other: ResultForm) -> ResultForm:
        """The same with the loop variables of another form with as many loops."""
        old, new = self.loops, other.loops
        sums = {n: replace(s, term=with_loops(s.term, old, new)) for n, s in self.sums.items()}
        indices = tuple(with_loops(i, old, new) for i in self.indices)
        return replace(self, loops=new, sums=sums, indices=indices, value=with_loops(self.value, old, new))


def result_form(s: Stmt) -> ResultForm | None:
    """The form of a nest; None for one that does anything else."""
    if not isinstance(s, Nest):
        return None
    loops, body = _chain(s.body)
    sums: dict[str, Sum] = {}
    starts: dict[str, Expr] = {}
    known: dict[str, Expr] = {}
    for i, x in enumerate(body):
        match x:
            case Let(name, value, True):
                starts[name] = value
            case Let(name, value):
                known[name] = _inlined(value, known)
            case For():
                found = _sum(x, known, starts)
                if found is None:
                    return None
                sums[found[0]] = found[1]
            case Store(buffer, indices, value) if i == len(body) - 1 and starts.keys() == sums.keys():
                value = _inlined(value, known)
                fixed = all(isinstance(f.extent, int) for f in (*loops, *(f for t in sums.values() for f in t.loops)))
                short = all(len(build.walk(e)) <= _LONGEST for e in (value, *(t.term for t in sums.values())))
                return ResultForm(s.origins, loops, sums, buffer, indices, value) if fixed and short else None
            case _:
                return None
    return None


def around(loops: Sequence[For], body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The loops inside one another, with another body."""
    for loop in reversed(loops):
        body = (replace(loop, body=body),)
    return body


def with_loops(e: Expr, old: Sequence[For], new: Sequence[For]) -> Expr:
    """The expression with the variables of other loops."""
    names = {a.var: b.var for a, b in zip(old, new, strict=True)}
    return build.map_expr(e, lambda x: Var(names[x.name]) if isinstance(x, Var) and x.name in names else None)


def _grown(name: str, s: Sum, loops: Sequence[For]) -> Assign:
    return Assign(name, build.add(Local(name, s.start.dtype), with_loops(s.term, s.loops, loops)))


def _sum(loop: For, known: Mapping[str, Expr], starts: Mapping[str, Expr]) -> tuple[str, Sum] | None:
    loops, body = _chain((loop,))
    inside = dict(known)
    for s in body[:-1]:
        if not isinstance(s, Let) or s.mutable:
            return None
        inside[s.name] = _inlined(s.value, inside)
    last = body[-1]
    if not isinstance(last, Assign) or last.name not in starts or not isinstance(last.value, Binary):
        return None
    total, term = last.value.a, _inlined(last.value.b, inside)
    grown = isinstance(total, Local) and total.name == last.name and last.value.operator == "add"
    if not grown or any(isinstance(e, Local) for e in build.walk(term)):
        return None
    return last.name, Sum(starts[last.name], loops, term)


def _chain(body: tuple[Stmt, ...]) -> tuple[tuple[For, ...], tuple[Stmt, ...]]:
    loops: list[For] = []
    while len(body) == 1 and isinstance(body[0], For) and body[0].kind == "serial":
        loops.append(body[0])
        body = body[0].body
    return tuple(loops), body


def _inlined(e: Expr, known: Mapping[str, Expr]) -> Expr:
    return build.map_expr(e, lambda x: known.get(x.name) if isinstance(x, Local) else None)
