"""Expressions of the loop IR as C text, for one problem or for a vector of problems.

In lanes mode an expression is uniform (the same for all problems: constants, indices, shared inputs) or varying (a
vector with one element per problem, GNU vector extensions); comparisons of varying values give integer masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unfoldc.kernels.loops import (
    COMPARISONS,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    Load,
    Local,
    Select,
    Unary,
    Var,
)
from unfoldc.kernels.printers.c_api.text import C_TYPES, literal

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "/", "mod": "%",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_MATH = ("sqrt", "exp", "log", "tanh", "erf", "sin", "cos", "floor", "ceil", "round", "pow")
_C_NAME = {"round": "rint"}


class NotVectorisable(ValueError):
    """The program has no form for a vector of problems; its message says why."""


@dataclass
class ExpressionPrinter:
    """Prints expressions; collects the helper functions they need in `helpers`.

    `place` maps a buffer to the C expression of its base address; `varying` holds the buffers with one element per
    problem, empty outside lanes mode.
    """

    symbol: str
    buffers: Mapping[str, Buffer]
    place: Mapping[str, str]
    varying: frozenset[str] = frozenset()
    lanes: bool = False
    varying_locals: set[str] = field(default_factory=set)
    helpers: set[tuple[str, str, bool]] = field(default_factory=set)

    def varies(self, e: Expr) -> bool:
        """Whether the expression differs from problem to problem (only in lanes mode)."""
        if not self.lanes or isinstance(e, Const | Var):
            return False
        if isinstance(e, Local):
            return e.name in self.varying_locals
        if isinstance(e, Load):
            if any(self.varies(i) for i in e.indices):
                raise NotVectorisable("an index depends on data")
            return e.buffer in self.varying
        if isinstance(e, Unary | Cast):
            return self.varies(e.a)
        if isinstance(e, Binary):
            return self.varies(e.a) or self.varies(e.b)
        return self.varies(e.condition) or self.varies(e.a) or self.varies(e.b)

    def text(self, e: Expr) -> str:
        """C text of the expression."""
        if isinstance(e, Const):
            return literal(e)
        if isinstance(e, Var | Local):
            return e.name
        if isinstance(e, Load):
            return f"{self.place[e.buffer]}[{self.offset(e.buffer, e.indices)}]"
        if isinstance(e, Cast):
            return self._cast(e)
        if isinstance(e, Unary):
            return self._unary(e)
        if isinstance(e, Select):
            return self._select(e)
        return self._binary(e)

    def offset(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """Row-major linear index."""
        terms, stride = [], 1
        for i, n in reversed(list(zip(indices, self.buffers[buffer].shape, strict=True))):
            if isinstance(i, Const):
                if i.value:
                    terms.append(str(int(i.value) * stride))
            elif stride == 1:
                terms.append(self.text(i).removeprefix("(").removesuffix(")") if _plain_sum(i) else self.text(i))
            else:
                terms.append(f"{self.text(i)} * {stride}")
            stride *= n
        return " + ".join(reversed(terms)) or "0"

    # -- kinds -------------------------------------------------------------------------------------------------

    def helper(self, name: str, dtype: str, varying: bool) -> str:
        """Name of a helper function, which the printer of the file then defines."""
        self.helpers.add((name, dtype, varying))
        return f"{self.symbol}_{name}_{dtype}{'_v' if varying else ''}"

    def splat(self, e: Expr) -> str:
        """The expression as a vector."""
        return self.text(e) if self.varies(e) else f"{self.helper('splat', e.dtype, True)}({self.text(e)})"

    def _cast(self, e: Cast) -> str:
        if self.varies(e.a):
            if e.dtype not in ("float32", "float64") or e.a.dtype != "bool":
                raise NotVectorisable(f"a cast from {e.a.dtype} to {e.dtype}")
            return f"{self.helper('from_mask', e.dtype, True)}({self.text(e.a)})"
        if e.dtype == "bool":
            return f"({self.text(e.a)} != 0)"
        return f"(({C_TYPES[e.dtype]}){self.text(e.a)})"

    def _unary(self, e: Unary) -> str:
        a, varying = self.text(e.a), self.varies(e.a)
        if e.operator == "neg":
            return f"(-{a})"
        if e.operator == "not":
            return f"(~{a})" if varying else f"(!{a})"
        if e.operator == "isnan":
            return f"({a} != {a})"
        if e.operator in _MATH and not varying:
            return f"{math_name(e.operator, e.dtype)}({a})"
        return f"{self.helper(e.operator, e.dtype, varying)}({a})"

    def _select(self, e: Select) -> str:
        if self.varies(e):
            if not self.varies(e.condition):
                return f"({self.text(e.condition)} ? {self.splat(e.a)} : {self.splat(e.b)})"
            if not e.dtype.startswith("float"):
                raise NotVectorisable(f"a choice between {e.dtype} values")
            return f"{self.helper('select', e.dtype, True)}({self.text(e.condition)}, {self.splat(e.a)}, {self.splat(e.b)})"
        return f"({self.text(e.condition)} ? {self.text(e.a)} : {self.text(e.b)})"

    def _binary(self, e: Binary) -> str:
        varying = self.varies(e)
        if e.operator in ("and", "or"):
            sign = {"and": "&", "or": "|"}[e.operator]
            if varying and not (self.varies(e.a) and self.varies(e.b)):
                raise NotVectorisable("a condition that is partly the same for all problems")
            return f"({self.text(e.a)} {sign if varying else sign * 2} {self.text(e.b)})"
        if e.operator in _INFIX:
            if varying and e.operator in COMPARISONS and not e.a.dtype.startswith("float"):
                raise NotVectorisable(f"a comparison of {e.a.dtype} values")
            return f"({self.text(e.a)} {_INFIX[e.operator]} {self.text(e.b)})"
        if e.operator in ("min", "max"):
            # With a second operand that is never NaN one comparison does: it keeps a NaN on the left.
            known = isinstance(e.b, Const) or (isinstance(e.b, Load) and self.buffers[e.b.buffer].space == "constant")
            name = self.helper(e.operator + ("_known" if known else ""), e.dtype, varying)
            a, b = (self.splat(e.a), self.splat(e.b)) if varying else (self.text(e.a), self.text(e.b))
            return f"{name}({a}, {b})"
        if e.operator == "pow" and not varying:
            return f"{math_name('pow', e.dtype)}({self.text(e.a)}, {self.text(e.b)})"
        if varying:
            return f"{self.helper(e.operator, e.dtype, True)}({self.splat(e.a)}, {self.splat(e.b)})"
        raise NotVectorisable(f"no C form of {e.operator}")


def math_name(operator: str, dtype: str) -> str:
    """The C function: `expf`, `exp`, ..."""
    return _C_NAME.get(operator, operator) + ("f" if dtype == "float32" else "")


def _plain_sum(e: Expr) -> bool:
    return isinstance(e, Binary) and e.operator in ("add", "sub")
