"""Expressions of the loop representation as C for one problem, with brackets where C or a reader needs them."""

from __future__ import annotations

from collections.abc import Mapping

from unfoldc.kernels import build
from unfoldc.kernels.loops import (
    Binary,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Select,
    Unary,
    Var,
)
from unfoldc.kernels.printers.c.absorbed_nan import NUMBERS
from unfoldc.kernels.printers.c.helpers import LIBRARY, Helpers
from unfoldc.kernels.printers.c.positions import depends_on_data, linear, never_negative
from unfoldc.kernels.printers.c_api.text import C_TYPES, literal

Text = tuple[str, int]
"""C text, and how tightly its outermost operator binds."""

ATOM, PREFIX, PRODUCT, SUM, COMPARISON, LOGIC, CHOICE = 7, 6, 5, 4, 3, 2, 1
# operator -> (sign, strength). Nobody has to know which of two operators binds tighter: operands have brackets.
_SIGNS: Mapping[str, tuple[str, int]] = {
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "lt": ("<", COMPARISON),
    "le": ("<=", COMPARISON),
    "gt": (">", COMPARISON),
    "ge": (">=", COMPARISON),
    "eq": ("==", COMPARISON),
    "ne": ("!=", COMPARISON),
    "and": ("&&", LOGIC),
    "or": ("||", LOGIC),
}
_CHAINS = (PRODUCT, SUM)  # a + b - c and a * b / c need none
_QUOTIENTS = {"div": "/", "floordiv": "/", "mod": "%"}  # of numbers that are never negative


class Expressions:
    """Prints expressions and collects in `helpers` what they call.

    `place` maps a buffer to the C name of its first element. `ranges` holds the values of the loop variables around the
    expression, both ends included; whoever prints loops keeps it.
    """

    def __init__(self, program: LoopProgram, place: Mapping[str, str], helpers: Helpers) -> None:
        self.program = program
        self.place = place
        self.helpers = helpers
        self.ranges: dict[str, tuple[int, int | Expr]] = {}

    # -- what the printer of statements asks -------------------------------------------------------------------

    def text(self, e: Expr) -> str:
        """The expression, without brackets around it."""
        return self.print(e)[0]

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, to be read."""
        shape = self.program.buffers[buffer].shape
        safe = [build.ZERO if n == 1 else self._inside(i, n) for i, n in zip(indices, shape, strict=True)]
        return f"{self.place[buffer]}[{linear(safe, shape, self._term)}]"

    def target(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, to be written."""
        return self.element(buffer, indices)

    def at_once(self, loop: For) -> str:
        """The statement that does what a loop does, where there is one; empty if not."""
        return ""

    def stored(self, e: Expr) -> str:
        """The value as an element of a buffer."""
        return self.text(e)

    def declared(self, s: Let) -> tuple[str, str]:
        """The C type of a scalar, and its value."""
        return "_Bool" if s.value.dtype == "bool" else C_TYPES[s.value.dtype], self.text(s.value)

    def element_type(self, buffer: str) -> str:
        """The C type of a buffer's elements."""
        return C_TYPES[self.program.buffers[buffer].dtype]

    # -- printing ----------------------------------------------------------------------------------------------

    def print(self, e: Expr) -> Text:
        """The expression and its strength."""
        match e:
            case Const():
                text = literal(e)
                return text, PREFIX if text.startswith("-") else ATOM
            case Var(name) | Local(name):
                return name, ATOM
            case Load(buffer, indices):
                return self.element(buffer, indices), ATOM
            case Cast():
                return self.cast(e)
            case Unary():
                return self.unary(e)
            case Select(condition, a, b):
                return f"{self.side(condition, PREFIX)} ? {self.side(a, PREFIX)} : {self.side(b, PREFIX)}", CHOICE
            case Binary():
                return self.binary(e)

    def side(self, e: Expr, least: int) -> str:
        """An operand, in brackets unless it binds at least that tightly."""
        text, strength = self.print(e)
        return text if strength >= least else f"({text})"

    def call(self, function: str, *operands: Expr) -> Text:
        """A call of a function."""
        return f"{function}({', '.join(self.text(e) for e in operands)})", ATOM

    def cast(self, e: Cast) -> Text:
        """A conversion that is defined for every value."""
        source = e.a.dtype
        if source == e.dtype:
            return self.print(e.a)
        if e.dtype == "bool":
            zero = literal(build.literal(0, source))
            return f"{self.side(e.a, PREFIX)} != {zero}", COMPARISON
        if source.startswith("float") and e.dtype.startswith("int"):
            return self.call(self.helpers.call(f"to_{e.dtype}", source), e.a)
        return f"({C_TYPES[e.dtype]}){self.side(e.a, PREFIX)}", PREFIX

    def unary(self, e: Unary) -> Text:
        """An operator of one operand."""
        if e.operator == "not":
            return f"!{self.side(e.a, PREFIX)}", PREFIX
        if e.operator == "neg" and e.dtype.startswith("float"):
            return f"-{self.side(e.a, ATOM)}", PREFIX
        if e.operator in LIBRARY:
            return self.call(self.helpers.function(e.operator, e.dtype), e.a)
        return self.call(self.helpers.call(e.operator, e.a.dtype), e.a)

    def binary(self, e: Binary) -> Text:
        """An operator of two operands."""
        integers = e.a.dtype.startswith("int")
        if e.operator in NUMBERS.values():
            a, b = (e.b, e.a) if self.never_nan(e.a) else (e.a, e.b)
            return self.call(self.helpers.call(e.operator, e.dtype), a, b)
        if e.operator in ("min", "max") and e.dtype.startswith("float"):
            return self.extremum(e)
        if integers and e.operator in _QUOTIENTS and self._plain_quotient(e):
            return self._joined(e, _QUOTIENTS[e.operator], PRODUCT)
        if e.operator in _SIGNS and not (integers and _SIGNS[e.operator][1] >= SUM and depends_on_data(e)):
            return self._joined(e, *_SIGNS[e.operator])
        if e.operator in LIBRARY and not integers:
            return self.call(self.helpers.function(e.operator, e.dtype), e.a, e.b)
        return self.call(self.helpers.call(e.operator, e.a.dtype), e.a, e.b)

    def extremum(self, e: Binary) -> Text:
        """`min` or `max` of floating-point numbers; one comparison does if one of them is known not to be NaN."""
        clip = (_between_literals(e) or self._between(e)) if self.helpers.freestanding else None
        if clip is not None:
            return self.call(self.helpers.call("clip_known", e.dtype), *clip)
        a, b = (e.b, e.a) if self.never_nan(e.a) else (e.a, e.b)
        known = "_known" if self.never_nan(b) else ""
        return self.call(self.helpers.call(e.operator + known, e.dtype), a, b)

    def never_nan(self, e: Expr) -> bool:
        """Whether a number comes from the program's own constants, which hold no NaN."""
        if isinstance(e, Const):
            return bool(e.value == e.value)
        if not isinstance(e, Load) or self.program.buffers[e.buffer].space != "constant":
            return False
        values = self.program.constants[e.buffer]
        return bool((values == values).all())

    def _between(self, e: Binary) -> tuple[Expr, Expr, Expr] | None:
        """A number, and the bounds that are never NaN to which `min(max(number, lower), upper)` clips it."""
        inner, high = (e.b, e.a) if self.never_nan(e.a) else (e.a, e.b)
        if e.operator == "min" and self.never_nan(high):
            match inner:
                case Binary("max", x, low) if self.never_nan(low) and not self.never_nan(x):
                    return x, low, high
                case Binary("max", low, x) if self.never_nan(low) and not self.never_nan(x):
                    return x, low, high
        return None

    def _joined(self, e: Binary, sign: str, strength: int) -> Text:
        """Two operands with a sign between; the left one may be a chain of the same strength."""
        left, own = self.print(e.a)
        if own < PREFIX and not (own == strength and strength in _CHAINS):
            left = f"({left})"
        return f"{left} {sign} {self.side(e.b, PREFIX)}", strength

    def _term(self, e: Expr, alone: bool) -> str:
        """A term of a position, in brackets unless it stands alone."""
        return self.text(e) if alone else self.side(e, PREFIX)

    def _plain_quotient(self, e: Binary) -> bool:
        """Whether C's `/` and `%` are what is meant: both sides never negative, the divisor not 0."""
        divisor = isinstance(e.b, Const) and e.b.value > 0
        return divisor and never_negative(e.a, self.ranges)

    def _inside(self, index: Expr, n: int) -> Expr:
        """An index; where it depends on data, which may be anything, one that is kept inside the array."""
        if not depends_on_data(index):
            return index
        call = f"{self.helpers.call('index', index.dtype)}({self.text(index)}, {n})"
        return Local(call, index.dtype)  # prints as it stands


def _between_literals(e: Binary) -> tuple[Expr, Expr, Expr] | None:
    """A number, and the literals to which `min` and `max`, in either order, clip it."""
    inner = e.a if isinstance(e.a, Binary) else e.b
    own = e.b if inner is e.a else e.a
    if not isinstance(inner, Binary) or {e.operator, inner.operator} != {"min", "max"} or not isinstance(own, Const):
        return None
    other, value = (inner.b, inner.a) if isinstance(inner.b, Const) else (inner.a, inner.b)
    if not isinstance(other, Const):
        return None
    low, high = (other, own) if e.operator == "min" else (own, other)
    return (value, low, high) if low.value <= high.value else None
