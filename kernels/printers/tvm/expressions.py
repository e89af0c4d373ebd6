"""Expressions in TVM's script, which is Python: operators where Python has them, functions of `T` elsewhere."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from unfoldc.kernels.loops import COMPARISONS, Binary, Cast, Const, Expr, Load, Local, Unary, Var
from unfoldc.kernels.printers.c_api.freestanding import BRANCHLESS, FREESTANDING
from unfoldc.kernels.printers.elementary import FUNCTIONS
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify
from unfoldc.kernels.printers.python_text import ATOM, Names, PythonPrinter, Text
from unfoldc.kernels.printers.tvm.elementary import elementary

_LET_WIDTHS = (1, 4, 8, 16, 32, 64)  # of the vectors whose types TVM's script has names for
_LARGEST_FLOAT = 3.4028234663852886e38
# Bare metal has no math library: what compilers' run-time libraries lack is printed beside the solver.
_LIBRARY = {"round": "rint", "pow": "pow", "fmod": "fmod"}


@dataclass(frozen=True)
class Places:
    """Where buffers are, and what is known of them.

    `shared` maps a buffer that has no pointer of its own to the one that it lies in and its first element there,
    `shape` gives a buffer's shape, `known` are the constants without NaN.
    """

    shared: Mapping[str, tuple[str, int]]
    shape: Callable[[str], tuple[int, ...]]
    known: frozenset[str] = frozenset()


class TvmExpressions(PythonPrinter):
    """Prints expressions; `temporaries` collects the lines that must stand before the statement in work.

    TVM's script has no inner scopes as ours, so each scalar gets a new identifier. `metal` prefixes the functions that
    stand in for a C library ("": there is one); `asked` collects those.
    """

    calls = {
        "abs": "T.abs", "sqrt": "T.sqrt", "exp": "T.exp", "log": "T.log", "tanh": "T.tanh", "erf": "T.erf",
        "sin": "T.sin", "cos": "T.cos", "floor": "T.floor", "ceil": "T.ceil", "round": "T.nearbyint",
        "pow": "T.pow", "not": "T.Not", "and": "T.And", "or": "T.Or", "isnan": "T.isnan",
    }  # fmt: skip
    choice = "T.Select"

    def __init__(self, names: Names, places: Places, metal: str = "") -> None:
        super().__init__(names)
        self._shared, self._shape, self._known = places.shared, places.shape, places.known
        self._metal = metal
        self.asked: set[str] = set()
        self.temporaries: list[str] = []
        self.zeros: dict[str, str] = {}
        self.vectors: set[str] = set()
        self._scalars: dict[str, str] = {}
        self._named: dict[str, str] = {}
        self._count = 0

    def start(self) -> None:
        """Begins a statement."""
        self.temporaries, self._named = [], {}

    def fresh(self, name: str) -> str:
        """An identifier that nothing else has."""
        self._count += 1
        return self.name(name, f"scalar {self._count}")

    def declare(self, name: str, mutable: bool, vector: bool = False) -> str:
        """The identifier of a scalar that is declared here; a mutable one is an array of one element."""
        identifier = self.fresh(name)
        self._scalars[name] = f"{identifier}[0]" if mutable else identifier
        (self.vectors.add if vector else self.vectors.discard)(name)
        return identifier

    def keep(self, name: str, dtype: str, lanes: int, text: str) -> str:
        """Computes a value in front of the statement in work; how it is read.

        TVM looks into what a constant stands for, and refuses some products with a choice; not into arrays.
        """
        self._count += 1
        identifier = self.name(f"{name}_{self._count}", "temporary")
        if "T.Select(" in text or lanes not in _LET_WIDTHS:
            self.temporaries += array(identifier, dtype, text, lanes)
            return f"{identifier}[0]"
        self.temporaries.append(constant(identifier, dtype, text, lanes))
        return identifier

    def literal(self, value: float | int | bool, dtype: str) -> str:
        """A constant that reads back exactly."""
        if dtype == "bool":
            return f"T.bool({bool(value)})"
        if not dtype.startswith("float"):
            return str(int(value)) if dtype == "int32" else f"T.{dtype}({int(value)})"
        number = float(value)
        if _LARGEST_FLOAT < abs(number) < math.inf:  # TVM's script has literals in the range of float32 only
            bits = struct.unpack("<q", struct.pack("<d", abs(number)))[0]
            return f'{"-" * (number < 0)}T.reinterpret("float64", T.uint64({bits:#x}))'
        other = "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
        return f"T.{dtype}({repr(number) if math.isfinite(number) else repr(other)})".replace("'", '"')

    def local(self, name: str, dtype: str) -> str:
        """The value of a scalar."""
        return self._scalars[name]

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, or of the one that it lies in."""
        indices = bounded(indices, self._shape(buffer))
        if buffer in self._shared:
            other, first = self._shared[buffer]
            place = flatten(indices, self._shape(buffer))
            place = simplify(Binary("add", place, Const(first, place.dtype), place.dtype))
            return f"{self.name(other, 'buffer')}[{self.text(place)}]"
        return f"{self.name(buffer, 'buffer')}[{', '.join(map(self.text, indices)) or '0'}]"

    def cast(self, a: Expr, dtype: str) -> Text:
        """A conversion."""
        if dtype == a.dtype:
            return self.print(a)
        if dtype == "bool":
            return self.binary(Binary("ne", a, Const(0, a.dtype), "bool"))
        return f'T.Cast("{dtype}", {self.text(a)})', ATOM

    def binary(self, e: Binary) -> Text:
        """An operator of two operands. TVM's own minimum and maximum lose NaN."""
        if e.operator in ("min", "max"):
            if not e.dtype.startswith("float"):
                return self.call(f"T.{e.operator}", e.a, e.b)
            return self._extremum(e)
        if e.operator == "div" and not e.dtype.startswith("float"):
            return self.call("T.truncdiv", e.a, e.b)
        if e.operator == "fmod" or (e.operator == "pow" and self._metal and e.dtype == "float32"):
            return self.library(e.operator, e.dtype, self.text(e.a), self.text(e.b)), ATOM
        if e.operator in COMPARISONS and e.a.dtype == "bool":  # TVM compares these as if they were floats
            return super().binary(replace(e, a=Cast(e.a, "int32"), b=Cast(e.b, "int32")))
        if e.operator == "ne" and e.a.dtype.startswith("float"):  # TVM's own is false where a side is NaN
            return f"T.Not({self.text(replace(e, operator='eq'))})", ATOM
        if e.operator in ("mul", "div") and e.dtype.startswith("float"):
            return super().binary(replace(e, a=self._kept(e.a), b=self._kept(e.b)))
        return super().binary(e)

    def library(self, operator: str, dtype: str, *operands: str) -> str:
        """A call of a function of the C library, or of what stands in for it."""
        name = _LIBRARY[operator] + ("f" if dtype == "float32" else "")
        if self._metal and name in FREESTANDING:
            self.asked.add(name)
            name = f"{self._metal}_{name}"
        return f'T.call_extern("{dtype}", "{name}", {", ".join(operands)})'

    def _kept(self, e: Expr) -> Expr:
        """A factor as it is, but a literal 0 as a variable: TVM takes `x * 0` and `0 / x` for 0 and refuses `x / 0`."""
        if not isinstance(e, Const) or e.value:
            return e
        name = f"zero_{e.dtype}"
        if e.dtype not in self.zeros:
            self.zeros[e.dtype] = self.declare(name, True)
        return Local(name, e.dtype)

    def width(self, e: Expr) -> int:
        """Elements of the value."""
        return 1

    def spread(self, e: Expr) -> str:
        """The expression as a vector, where this printer has vectors."""
        return self.text(e)

    def _extremum(self, e: Binary) -> Text:
        """The side that compares true, or a NaN on the other one: one comparison does where one side is no NaN."""
        sign = "<" if e.operator == "min" else ">"
        lanes = self.width(e)
        a, b = self._short(e.a, lanes), self._short(e.b, lanes)
        if self._never_nan(e.b):
            return f"T.Select({b} {sign} {a}, {b}, {a})", ATOM
        if self._never_nan(e.a):
            return f"T.Select({a} {sign} {b}, {a}, {b})", ATOM
        return f"T.Select(T.Or({a} {sign} {b}, T.isnan({a})), {a}, {b})", ATOM

    def _short(self, e: Expr, lanes: int) -> str:
        """Text that may be repeated: anything longer is computed once, into a temporary."""
        value = self.text(e) if lanes == 1 else self.spread(e)
        if isinstance(e, Const | Var | Local | Load):
            return value
        if value not in self._named:
            self._named[value] = self.keep("m", e.dtype, lanes, value)
        return self._named[value]

    def _never_nan(self, e: Expr) -> bool:
        """Whether a number comes from the program's own constants and is none."""
        if isinstance(e, Const):
            return not math.isnan(e.value)
        return isinstance(e, Load) and e.buffer in self._known

    def unary(self, e: Unary) -> Text:
        """An operator of one operand."""
        if e.operator == "neg":
            return f"-{self.side(e.a, ATOM)}", 6
        if (e.operator, e.dtype) in FUNCTIONS and self._by_formula(e):
            lanes = self.width(e)
            value = self._short(e.a, lanes)

            def declare(name: str, dtype: str, text: str) -> str:
                return self.keep(name, dtype, lanes, text)

            return elementary(e.operator, e.dtype, lanes, value, self.literal, declare), ATOM
        if e.operator == "round" and self._metal and e.dtype == "float32" and self.width(e) == 1:
            return self.library(e.operator, e.dtype, self.text(e.a)), ATOM
        return super().unary(e)

    def _by_formula(self, e: Unary) -> bool:
        """Whether a function is written out; a run-time library has some that are shorter on bare metal."""
        return not self._metal or (e.operator, e.dtype) in BRANCHLESS or e.operator in ("tanh", "erf")


def array(name: str, dtype: str, value: str, lanes: int = 1) -> list[str]:
    """A scalar or vector that may change, as TVM's script has it."""
    kind = f"{dtype}x{lanes}" if lanes > 1 else dtype
    return [f'{name} = T.alloc_local((1,), "{kind}")', f"{name}[0] = {value}"]


def constant(name: str, dtype: str, value: str, lanes: int = 1) -> str:
    """One that does not change."""
    return f"{name}: T.let[T.{dtype}{f'x{lanes}' if lanes > 1 else ''}] = {value}"
