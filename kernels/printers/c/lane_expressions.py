"""Expressions on several problems or results side by side: GNU vectors with one element for each.

An expression is uniform (the same for all of them: constants, indices, inputs that the problems share) and printed as
for one, or varying and printed as a vector. C lets the two meet in arithmetic; elsewhere a uniform one is
spread. Comparisons of varying values give masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.lane_indices import border
from unfoldc.kernels.loops import (
    COMPARISONS,
    ITERATION,
    Binary,
    Cast,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Select,
    Unary,
)
from unfoldc.kernels.printers.c.expressions import CHOICE, LOGIC, PREFIX, Expressions, Text
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.lane_helpers import exchange_name
from unfoldc.kernels.printers.c.lane_sums import SUMS
from unfoldc.kernels.printers.c.vector_comparisons import COMPARED
from unfoldc.kernels.printers.c_api.lane_interface import vector_type
from unfoldc.kernels.printers.lanes import moves, neighbours, square_of_row_sums, varies
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable

_BITWISE = {"and": "&", "or": "|"}


def memory_vector(vector: str) -> str:
    """The type of such a vector anywhere in memory."""
    return f"{vector}_at"


class LaneExpressions(Expressions):
    """`varying` are the buffers with one element per problem, all of type `dtype`; `symbol` is the solver's.

    With `lane`, the variable of a loop of the kind "lanes", the elements are its runs instead: what is read or written
    at places that move with it are vectors in memory, at any multiple of the element's size.
    """

    def __init__(
        self,
        program: LoopProgram,
        place: Mapping[str, str],
        helpers: Helpers,
        symbol: str,
        varying: frozenset[str],
        dtype: str,
        lane: str = "",
    ) -> None:
        super().__init__(program, place, helpers)
        self.lane = lane
        self.varying, self.dtype = varying, dtype
        self.vector, self.mask = vector_type(symbol, dtype), vector_type(symbol, dtype, mask=True)
        self._varying_scalars: set[str] = set()

    def varies(self, e: Expr) -> bool:
        """Whether the value differs from problem to problem."""
        return varies(e, self._varying_scalars, self.varying, self.lane)

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, to be read or written."""
        if any(self.varies(i) for i in indices):
            raise NotVectorisable("an index depends on data")
        if not self._moves(indices):
            return super().element(buffer, indices)
        return self._vector_at("const ", buffer, indices)

    def target(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, or a vector of neighbours, to be written."""
        return self._vector_at("", buffer, indices) if self._moves(indices) else self.element(buffer, indices)

    def element_type(self, buffer: str) -> str:
        """The C type of a buffer's elements."""
        return self.vector if buffer in self.varying else super().element_type(buffer)

    def at_once(self, loop: For) -> str:
        """The sums of the rows of a square, which its vectors give together."""
        found = square_of_row_sums(loop, self.lane, lambda name: self.program.buffers[name].shape, self.ranges)
        if found is not None:
            name, buffer, lead, rows = found
            first = super().element(buffer, (*lead, build.ZERO, build.ZERO))
            return f"{name} += {self.helpers.call(f'{SUMS}{rows}', self.dtype, lanes=True)}(&{first});"
        return ""

    def stored(self, e: Expr) -> str:
        """The value as an element of a buffer, which always varies."""
        return self.spread(e)

    def declared(self, s: Let) -> tuple[str, str]:
        """The C type of a scalar, and its value; one that may be assigned varies."""
        self._varying_scalars.discard(s.name)
        if not s.mutable and not self.varies(s.value):
            return super().declared(s)
        if s.value.dtype not in (self.dtype, "bool"):
            raise NotVectorisable(f"a value of type {s.value.dtype} that differs from problem to problem")
        value = self.spread(s.value)
        self._varying_scalars.add(s.name)
        return self.mask if s.value.dtype == "bool" else self.vector, value

    def spread(self, e: Expr) -> str:
        """The expression as a vector, or as a mask where it is a condition."""
        if self.varies(e):
            return self.text(e)
        if e.dtype == "bool":
            return f"({self.mask}){{0}} - ({self.side(e, PREFIX)} ? 1 : 0)"
        if e.dtype != self.dtype:
            raise NotVectorisable(f"a value of type {e.dtype} among those of type {self.dtype}")
        return f"{self.helpers.call('splat', e.dtype, lanes=True)}({self.text(e)})"

    def print(self, e: Expr) -> Text:
        """The expression and its strength."""
        if isinstance(e, Select) and self.varies(e):
            return self._choice(e)
        return super().print(e)

    def cast(self, e: Cast) -> Text:
        """A conversion; of varying values only from condition to number."""
        if not self.varies(e.a) or e.a.dtype == e.dtype:
            return super().cast(e)
        if e.dtype != self.dtype or e.a.dtype != "bool":
            raise NotVectorisable(f"a cast from {e.a.dtype} to {e.dtype}")
        return self.call(self.helpers.call("from_mask", e.dtype, lanes=True), e.a)

    def unary(self, e: Unary) -> Text:
        """An operator of one operand."""
        if not self.varies(e.a) or e.operator == "neg":
            return super().unary(e)
        if e.operator == "not":
            return f"~{self.side(e.a, PREFIX)}", PREFIX
        many = e.operator == "sqrt" and e.dtype == "float32" and self._many_wide
        return self.call(self.helpers.call("sqrt_of_many" if many else e.operator, e.a.dtype, lanes=True), e.a)

    def binary(self, e: Binary) -> Text:
        """An operator of two operands."""
        if not self.varies(e) or e.operator in ("min", "max"):
            return super().binary(e)
        at_border = border(e, self.lane) if self.lane else None
        if at_border is not None:
            return self._border(e, *at_border)
        if e.operator in _BITWISE or e.a.dtype == "bool":
            if e.operator not in _BITWISE and e.operator not in ("eq", "ne"):
                raise NotVectorisable(f"{e.operator} of conditions")
            a, b = (f"({self.spread(x)})" for x in (e.a, e.b))
            sign = _BITWISE.get(e.operator, "^")
            return (f"~({a} {sign} {b})", PREFIX) if e.operator == "eq" else (f"{a} {sign} {b}", LOGIC)
        if e.operator in ("pow", "fmod"):
            name = self.helpers.call(e.operator, e.dtype, lanes=True)
            return f"{name}({self.spread(e.a)}, {self.spread(e.b)})", PREFIX + 1
        if e.operator in COMPARISONS and e.a.dtype != self.dtype:
            raise NotVectorisable(f"a comparison of {e.a.dtype} values")
        if e.operator in COMPARISONS and self.helpers.guarded:
            return self._guarded(e)
        return super().binary(e)

    def extremum(self, e: Binary) -> Text:
        """`min` or `max` of numbers."""
        if not self.varies(e):
            return super().extremum(e)
        a, b = (e.b, e.a) if self.never_nan(e.a) else (e.a, e.b)
        name = self.helpers.call(e.operator + ("_known" if self.never_nan(b) else ""), e.dtype, lanes=True)
        return f"{name}({self.spread(a)}, {self.spread(b)})", PREFIX + 1

    @property
    def _many_wide(self) -> bool:
        """Whether a loop runs this for one vector of 16 after the other, so that they need not wait for each other."""
        last = self.ranges.get(self.lane, (0, 15))[1]
        return bool(self.ranges.keys() - {ITERATION, self.lane}) and isinstance(last, int) and last % 16 == 15

    def _moves(self, indices: tuple[Expr, ...]) -> bool:
        return moves(indices, self.lane)

    def _in_memory(self, e: Expr) -> bool:
        """Whether a value has the type of vectors anywhere in memory, which is another one."""
        return isinstance(e, Load) and self._moves(e.indices)

    def _vector_at(self, constant: str, buffer: str, indices: tuple[Expr, ...]) -> str:
        places, exchange, turned = neighbours(indices, self.program.buffers[buffer].shape, self.lane, self._lanes)
        text = f"(({constant}{memory_vector(self.vector)} *)&{super().element(buffer, places)})[0]"
        if exchange is not None:
            text = f"{self.helpers.call(exchange_name(exchange, self._lanes), self.dtype, lanes=True)}({text})"
        return f"{self.helpers.call('turned', self.dtype, lanes=True)}({text})" if turned else text

    @property
    def _lanes(self) -> int:
        last = self.ranges[self.lane][1]
        assert isinstance(last, int)
        return last + 1

    def _border(self, e: Binary, sign: int, limit: Expr) -> Text:
        """The mask of a comparison of each element's number, or its negative, with a limit."""
        numbers = f"({self.mask}){{{', '.join(str(sign * i) for i in range(self._lanes))}}}"
        spread = f"({self.side(limit, PREFIX)} - ({self.mask}){{0}})"
        return super().binary(replace(e, a=Local(numbers, "int32"), b=Local(spread, "int32")))  # print as they stand

    def _guarded(self, e: Binary) -> Text:
        """A comparison with nothing known of its right side, nor of what is the same for all elements."""
        name = self.helpers.call(COMPARED, self.dtype, lanes=True)
        a = self.side(e.a, PREFIX) if self.varies(e.a) else f"{name}({self.spread(e.a)})"
        b = f"{name}({self.spread(e.b)})"
        return super().binary(replace(e, a=Local(a, self.dtype), b=Local(b, self.dtype)))  # print as they stand

    def _choice(self, e: Select) -> Text:
        if not self.varies(e.condition):
            a, b = (f"({self.vector}){self.spread(x)}" if self._in_memory(x) else self.spread(x) for x in (e.a, e.b))
            return f"{self.side(e.condition, PREFIX)} ? {a} : {b}", CHOICE
        if e.dtype != self.dtype:
            raise NotVectorisable(f"a choice between {e.dtype} values")
        name = self.helpers.call("select", e.dtype, lanes=True)
        return f"{name}({self.text(e.condition)}, {self.spread(e.a)}, {self.spread(e.b)})", PREFIX + 1
