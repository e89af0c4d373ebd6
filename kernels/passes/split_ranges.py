"""Splits a loop where a comparison of its variable changes its answer, so that the borders of a padded image are loops
of their own and what lies inside is a plain copy.

    for i < 68: y[i] = 2 <= i && i < 66 ? x[i - 2] : 0
becomes
    for i < 2: y[i] = 0;  for i < 64: y[i + 2] = x[i];  for i < 2: y[i + 66] = 0
Where whole vectors are fewer, the pieces are such: 63 elements and one more are 48 and the 16 around the border, each
of which makes its own choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import Ranges, bounds, linear, loop_range
from unfoldc.kernels.loops import Binary, Const, Expr, For, Let, Nest, Select, Stmt, Store, Unary, Var
from unfoldc.kernels.passes.vector_axis import Layouts, vector_axis

_MOST_PIECES = 3


def split_ranges(body: Sequence[Stmt], layouts: Layouts | None = None, vector_bits: int = 0) -> tuple[Stmt, ...]:
    """Splits the loops around what has no sums, and drops the comparisons that are settled.

    With `layouts`, the buffers of the program, innermost loops may be split into vectors of so many bits.
    """
    return _Split(layouts, vector_bits).body(body, {})


@dataclass(frozen=True)
class _Split:
    layouts: Layouts | None
    vector_bits: int

    def body(self, body: Sequence[Stmt], ranges: Ranges) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, Nest):
                result.append(replace(s, body=self.body(s.body, ranges)))
            elif isinstance(s, For) and isinstance(s.extent, int) and s.kind != "lanes" and _plain(s):
                result.extend(self.pieces(s, s.extent, ranges))
            elif isinstance(s, For):
                result.append(replace(s, body=self.body(s.body, {**ranges, s.var: loop_range(s)})))
            else:
                result.append(s)
        return tuple(result)

    def pieces(self, loop: For, extent: int, ranges: Ranges) -> list[Stmt]:
        """The loop in pieces: the whole of it where it would fall into too many."""
        cuts = _cuts(loop, extent)
        exact = self.cut(loop, cuts, ranges) if len(cuts) - 1 <= _MOST_PIECES else self.cut(loop, [0, extent], ranges)
        lanes = self.vector_bits // _bits(loop)
        if self.layouts is None or extent < lanes or not _computes(loop.body):
            return exact
        whole = sorted({c for cut in cuts for c in (cut // lanes * lanes, min(-(-cut // lanes) * lanes, extent))})
        if _vectors(whole, lanes) >= _vectors(cuts, lanes):
            return exact
        rounded = self.cut(loop, whole, ranges)
        return rounded if all(map(self.fits, rounded)) else exact

    def cut(self, loop: For, cuts: Sequence[int], ranges: Ranges) -> list[Stmt]:
        """The pieces between the cuts."""
        result: list[Stmt] = []
        for start, end in zip(cuts, cuts[1:], strict=False):
            var = build.add(Var(loop.var), build.index(start))
            inner = tuple(build.substitute(b, loop.var, var) for b in loop.body) if start else loop.body
            own = {**ranges, loop.var: (0, end - start - 1)}
            settled = tuple(build.map_stmt(b, _Settled(own)) for b in inner)
            if end - start == 1 and not any(isinstance(b, Let) for b in loop.body):
                result.extend(self.body([build.substitute(b, loop.var, build.ZERO) for b in settled], ranges))
            else:
                result.append(replace(loop, extent=end - start, body=self.body(settled, own)))
        return result

    def fits(self, piece: Stmt) -> bool:
        """Whether the results of a piece become elements of vectors."""
        if not isinstance(piece, For):
            return True  # a single result
        assert isinstance(piece.extent, int) and self.layouts is not None
        border = piece.extent if piece.extent * _bits(piece) <= self.vector_bits else 0
        return vector_axis(piece.body, piece.var, self.layouts, {piece.var}, border) is not None


def _plain(loop: For) -> bool:
    if all(isinstance(s, For) for s in loop.body):
        return all(isinstance(s, For) and _plain(s) for s in loop.body)
    return not any(isinstance(s, For | Nest) for s in build.statements(loop.body))


def _cuts(loop: For, extent: int) -> list[int]:
    """Where a comparison of the loop's variable changes its answer, and the ends."""
    cuts = {0, extent}
    for e in build.within(loop.body):
        if isinstance(e, Binary) and e.operator in ("ge", "lt") and e.a.dtype == "int32":
            cuts.update(_turn(e, loop.var, extent))
    return sorted(cuts)


def _bits(loop: For) -> int:
    """The size of the elements that a loop stores."""
    return min((8 * np.dtype(s.value.dtype).itemsize for s in loop.body if isinstance(s, Store)), default=8)


def _computes(body: Sequence[Stmt]) -> bool:
    """Whether statements without loops compute with numbers: a copy at a border is no cheaper in one vector."""
    return all(not isinstance(s, For) for s in body) and any(
        isinstance(e, Binary | Unary) and e.dtype.startswith("float") for e in build.within(body)
    )


def _vectors(cuts: Sequence[int], lanes: int) -> int:
    """How many vectors there are between the cuts, with shorter ones for what is left over."""
    lengths = [end - start for start, end in zip(cuts, cuts[1:], strict=False)]
    return sum(n // lanes + (n % lanes).bit_count() for n in lengths)


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
