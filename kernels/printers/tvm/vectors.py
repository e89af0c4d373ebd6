"""Expressions on several results or problems side by side: TVM's vectors, with one element for each.

An expression is uniform (the same for all of them: constants, indices, inputs that the problems share) and printed as
for one, or varying and printed as a vector. TVM spreads a uniform one that meets a vector in arithmetic; elsewhere it
is spread here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unfoldc.kernels import build
from unfoldc.kernels.lane_indices import border
from unfoldc.kernels.loops import (
    COMPARISONS,
    Assign,
    Binary,
    Const,
    Expr,
    For,
    Let,
    Select,
    Store,
    Unary,
)
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify
from unfoldc.kernels.printers.lanes import moves, neighbours, square_of_row_sums, varies
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable
from unfoldc.kernels.printers.python_text import ATOM, Text
from unfoldc.kernels.printers.tvm.expressions import TvmExpressions
from unfoldc.kernels.printers.tvm.root import LANES, root_by_estimate


class VectorExpressions(TvmExpressions):
    """Prints expressions on buffers of one axis. Inside `lanes_of` a loop its runs are the elements of vectors.

    With `varying`, buffers that hold `lanes` problems side by side, all of type `dtype`, everything is; a uniform index
    of such a buffer selects a vector.
    """

    lane = ""
    lanes = 1
    dtype = ""
    loops = 0  # those around, but for vectors
    estimates = False  # whether the processor has one of 1 / sqrt(x)
    varying: frozenset[str] = frozenset()

    def side_by_side(self, varying: frozenset[str], lanes: int, dtype: str) -> None:
        """From here on, these buffers hold so many problems."""
        self.varying, self.lanes, self.dtype = varying, lanes, dtype

    @contextmanager
    def lanes_of(self, loop: For) -> Iterator[None]:
        """Prints what stands in a loop of the kind "lanes"."""
        assert isinstance(loop.extent, int)
        inside = build.statements(loop.body)
        kinds = (s.value.dtype for s in inside if isinstance(s, Let | Store) and s.value.dtype.startswith("float"))
        self.lane, self.lanes, self.dtype = loop.var, loop.extent, next(kinds)
        try:
            yield
        finally:
            self.lane, self.lanes, self.dtype = "", 1, ""

    def varies(self, e: Expr) -> bool:
        """Whether the value differs from element to element."""
        return self.lanes > 1 and varies(e, self.vectors, self.varying, self.lane)

    def spread(self, e: Expr) -> str:
        """The expression as a vector."""
        return self.text(e) if self.varies(e) else f"T.Broadcast({self.text(e)}, {self.lanes})"

    def width(self, e: Expr) -> int:
        """Elements of the value."""
        return self.lanes if self.varies(e) else 1

    def is_vector(self, s: Let | Assign | Store) -> bool:
        """Whether what a statement writes is a vector; scalars that may be assigned are, since their loop is one."""
        match s:
            case Let(_, value, mutable):
                return self.lanes > 1 and (mutable or self.varies(value))
            case Assign(name):
                return name in self.vectors
            case Store(buffer, indices):
                return self.lanes > 1 and (buffer in self.varying or self._moves(indices))

    def kind_of(self, dtype: str) -> str:
        """The element type of a vector in memory: masks are kept as numbers. Only some scalars may become vectors."""
        if dtype not in (self.dtype, "bool"):
            raise NotVectorisable(f"a value of type {dtype} that differs from problem to problem")
        return "int32" if dtype == "bool" else dtype

    def kept(self, e: Expr) -> str:
        """The expression as such a vector is kept."""
        text = self.spread(e)
        return f'T.Cast("int32x{self.lanes}", {text})' if e.dtype == "bool" else text

    def local(self, name: str, dtype: str) -> str:
        """The value of a scalar."""
        text = super().local(name, dtype)
        return f"({text} > T.Broadcast(0, {self.lanes}))" if dtype == "bool" and name in self.vectors else text

    def place(self, name: str) -> str:
        """Where the vector of this name is kept."""
        return self._scalars[name]

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, or a vector of neighbours."""
        if any(self.varies(i) for i in indices):
            raise NotVectorisable("an index depends on data")
        if self._moves(indices):
            return self._neighbours(buffer, indices)
        if buffer in self.varying:
            return self._at(buffer, indices, vector=True, step=self.lanes)
        return self._at(buffer, indices)

    def row_sums(self, loop: For, ranges: dict[str, tuple[int, int | Expr]]) -> tuple[str, str, int] | None:
        """For a sum over the rows of a square, which its vectors give together: the total, the buffer, the rows.

        The middle item is how the first element of the square is written, without brackets around its position.
        """
        found = square_of_row_sums(loop, self.lane, self._shape, ranges)
        if found is None:
            return None
        name, buffer, lead, rows = found
        start = self._position(buffer, (*lead, build.ZERO, build.ZERO))
        return name, f"{self._own(buffer)}[T.Ramp({start} + {{}}, 1, {rows})]", rows

    # -- operators -------------------------------------------------------------------------------------------------

    def print(self, e: Expr) -> Text:
        """The expression and its strength."""
        if isinstance(e, Select) and self.varies(e):
            condition = self.text(e.condition)
            return f"T.Select({condition}, {self.spread(e.a)}, {self.spread(e.b)})", ATOM
        return super().print(e)

    def cast(self, a: Expr, dtype: str) -> Text:
        """A conversion."""
        if not self.varies(a) or dtype in (a.dtype, "bool"):
            return super().cast(a, dtype)
        return f'T.Cast("{dtype}x{self.lanes}", {self.text(a)})', ATOM

    def binary(self, e: Binary) -> Text:
        """An operator of two operands."""
        if not self.varies(e):
            return super().binary(e)
        at_border = border(e, self.lane) if self.lane else None
        if at_border is not None:
            sign, limit = at_border
            numbers = f"T.Ramp(0, {sign}, {self.lanes})"
            return _compared(e.operator, numbers, f"T.Broadcast({self.text(limit)}, {self.lanes})")
        if e.a.dtype == "bool" and e.operator in ("eq", "ne"):
            a, b = (f'T.Cast("int32x{self.lanes}", {self.spread(x)})' for x in (e.a, e.b))
            return _compared(e.operator, a, b)
        if e.operator in ("and", "or"):
            return f"{self.calls[e.operator]}({self.spread(e.a)}, {self.spread(e.b)})", ATOM
        if e.operator in COMPARISONS and e.operator != "ne":
            return _compared(e.operator, self.spread(e.a), self.spread(e.b))
        if e.operator == "pow" and not self._metal:
            return f"T.pow({self.spread(e.a)}, {self.spread(e.b)})", ATOM
        if e.operator in ("fmod", "pow"):
            return self._one_by_one(e)
        return super().binary(e)

    def unary(self, e: Unary) -> Text:
        """An operator of one operand. Roots of many vectors, one after the other, need not wait for the divider."""
        many = self.estimates and self.loops and self.lanes % LANES == 0 and e.dtype == "float32"
        if e.operator != "sqrt" or not many or not self.varies(e):
            return super().unary(e)

        def keep(name: str, lanes: int, text: str) -> str:
            return self.keep(name, "float32", lanes, text)

        return root_by_estimate(self._short(e.a, self.lanes), self.lanes, keep), ATOM

    def _one_by_one(self, e: Binary) -> Text:
        """A function of the library, element by element."""
        a, b = (self.keep("m", e.dtype, self.lanes, self.spread(x)) for x in (e.a, e.b))
        parts = (
            self.library(e.operator, e.dtype, f"T.Shuffle([{a}], [{i}])", f"T.Shuffle([{b}], [{i}])")
            for i in range(self.lanes)
        )
        return f"T.Shuffle([{', '.join(parts)}], [{', '.join(map(str, range(self.lanes)))}])", ATOM

    # -- places ----------------------------------------------------------------------------------------------------

    def _moves(self, indices: tuple[Expr, ...]) -> bool:
        return moves(indices, self.lane)

    def _neighbours(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        places, exchange, turned = neighbours(indices, self._shape(buffer), self.lane, self.lanes)
        text = self._at(buffer, places, vector=True)
        if exchange is not None:
            order = (min(max(i + exchange.step, exchange.first), exchange.last) for i in range(self.lanes))
            text = self._exchanged(text, list(order))
        half = self.lanes // 2
        return self._exchanged(text, [(i + half) % self.lanes for i in range(self.lanes)]) if turned else text

    @staticmethod
    def _exchanged(vector: str, order: list[int]) -> str:
        return f"T.Shuffle([{vector}], [{', '.join(map(str, order))}])"

    def _at(self, buffer: str, indices: tuple[Expr, ...], *, vector: bool = False, step: int = 1) -> str:
        position = self._position(buffer, indices, step)
        return f"{self._own(buffer)}[{f'T.Ramp({position}, 1, {self.lanes})' if vector else position}]"

    def _own(self, buffer: str) -> str:
        return self.name(self._shared.get(buffer, (buffer, 0))[0], "buffer")

    def _position(self, buffer: str, indices: tuple[Expr, ...], step: int = 1) -> str:
        shape = self._shape(buffer)
        place = flatten(bounded(indices, shape), shape)
        place = simplify(Binary("add", place, Const(self._shared.get(buffer, ("", 0))[1], place.dtype), place.dtype))
        place = simplify(Binary("mul", place, Const(step, place.dtype), place.dtype))
        return self.text(build.cast(place, "int32"))


_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=="}


def _compared(operator: str, a: str, b: str) -> Text:
    """A comparison of two vectors."""
    if operator == "ne":
        return f"T.Not({a} == {b})", ATOM
    return f"({a} {_SIGNS[operator]} {b})", ATOM
