"""Splits a loop where a comparison of its variable changes its answer, so that the borders of a padded image are loops
of their own and what lies inside is a plain copy.

    for i < 68: y[i] = 2 <= i && i < 66 ? x[i - 2] : 0
becomes
    for i < 2: y[i] = 0;  for i < 64: y[i + 2] = x[i];  for i < 2: y[i + 66] = 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, bounds, linear, loop_range
from unfoldc.kernels.loops import Binary, Const, Expr, For, Let, Nest, Select, Stmt, Unary, Var

_MOST_PIECES = 3


def split_ranges(body: Sequence[Stmt], around: Ranges | None = None) -> tuple[Stmt, ...]:
    """Splits the loops that hold no loop but one directly inside them, and drops the comparisons that are settled."""
    ranges: Ranges = around or {}
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest):
            result.append(replace(s, body=split_ranges(s.body, ranges)))
        elif isinstance(s, For) and isinstance(s.extent, int) and s.kind != "lanes" and _plain(s):
            for start, count in _pieces(s, s.extent):
                var = build.add(Var(s.var), build.index(start))
                inner = tuple(build.substitute(b, s.var, var) for b in s.body) if start else s.body
                own = {**ranges, s.var: (0, count - 1)}
                settled = tuple(build.map_stmt(b, _Settled(own)) for b in inner)
                plain = count == 1 and not any(isinstance(b, Let) for b in s.body)
                once = tuple(build.substitute(b, s.var, build.ZERO) for b in settled) if plain else ()
                result.extend(split_ranges(once, ranges) or [replace(s, extent=count, body=split_ranges(settled, own))])
        elif isinstance(s, For):
            result.append(replace(s, body=split_ranges(s.body, {**ranges, s.var: loop_range(s)})))
        else:
            result.append(s)
    return tuple(result)


def _plain(loop: For) -> bool:
    body = loop.body
    while len(body) == 1 and isinstance(body[0], For):
        body = body[0].body
    return not any(isinstance(s, For | Nest) for s in body)


def _pieces(loop: For, extent: int) -> list[tuple[int, int]]:
    """Start and length of each piece: the whole loop where it would fall into too many."""
    cuts = {0, extent}
    for s in build.statements(loop.body):
        for top in build.expressions(s):
            for e in build.walk(top):
                if isinstance(e, Binary) and e.operator in ("ge", "lt") and e.a.dtype == "int32":
                    cuts.update(_turn(e, loop.var, extent))
    if len(cuts) - 1 > _MOST_PIECES:
        return [(0, extent)]
    ordered = sorted(cuts)
    return [(a, b - a) for a, b in zip(ordered, ordered[1:], strict=False)]


def _turn(e: Binary, var: str, extent: int) -> list[int]:
    """The first value of the variable from which on a comparison has another answer."""
    form = linear(build.sub(e.a, e.b))
    if form.terms != {Var(var): 1} or not 0 < -form.constant < extent:
        return []
    return [-form.constant]


class _Settled:
    """Replaces comparisons, choices and bounds of indices by what they always are."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def __call__(self, e: Expr) -> Expr | None:
        if isinstance(e, Select):
            condition = build.map_expr(e.condition, self)
            if isinstance(condition, Const):
                return build.map_expr(e.a if condition.value else e.b, self)
            return Select(condition, build.map_expr(e.a, self), build.map_expr(e.b, self), e.dtype)
        if isinstance(e, Unary) and e.operator == "not":
            a = build.map_expr(e.a, self)
            return build.literal(not a.value, "bool") if isinstance(a, Const) else Unary("not", a, e.dtype)
        if not isinstance(e, Binary):
            return None
        if e.operator in ("and", "or"):
            return self._joined(e)
        if e.a.dtype != "int32":
            return None
        if e.operator in ("ge", "lt"):
            low, high = bounds(build.sub(e.a, e.b), self.ranges)
            if low >= 0 or high < 0:
                return build.literal((low >= 0) == (e.operator == "ge"), "bool")
        elif e.operator in ("min", "max"):
            a, b = build.map_expr(e.a, self), build.map_expr(e.b, self)
            low, high = bounds(build.sub(a, b), self.ranges)
            if low >= 0 or high <= 0:
                return b if (low >= 0) == (e.operator == "min") else a
        return None

    def _joined(self, e: Binary) -> Expr:
        a, b = build.map_expr(e.a, self), build.map_expr(e.b, self)
        decides = e.operator == "or"
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Const):
                return one if bool(one.value) == decides else other
        return Binary(e.operator, a, b, e.dtype)
