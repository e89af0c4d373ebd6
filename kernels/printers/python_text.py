"""Expressions of the loop representation in Python's syntax, as the printers for Numba and for TVM both write them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from unfoldc.kernels.loops import Binary, Cast, Const, Expr, Load, Local, Select, Unary, Var

ATOM = 9
NEGATION = 6
# operator -> (sign, strength): a side that binds less tightly than its operator stands in brackets.
_SIGNS: Mapping[str, tuple[str, int]] = {
    "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1), "ge": (">=", 1), "eq": ("==", 1), "ne": ("!=", 1),
    "or": ("|", 2), "and": ("&", 3), "add": ("+", 4), "sub": ("-", 4),
    "mul": ("*", 5), "div": ("/", 5), "floordiv": ("//", 5), "mod": ("%", 5), "pow": ("**", 7),
}  # fmt: skip
_COMPARISON, _POWER = 1, 7  # neither chains as it does in mathematics

Text = tuple[str, int]


class PythonPrinter:
    """Prints expressions. A method that prints returns the text and how tightly its outermost operator binds.

    `name(identifier, role)` gives the printed identifier; `calls` maps operators to functions and goes before signs.
    """

    calls: Mapping[str, str] = {}
    choice = "select"

    def __init__(self, name: Callable[[str, str], str]) -> None:
        self.name = name

    def text(self, e: Expr) -> str:
        """The expression, without brackets around it."""
        return self.print(e)[0]

    def print(self, e: Expr) -> Text:
        """The expression and its strength."""
        match e:
            case Const(value, dtype):
                text = self.literal(value, dtype)
                return text, NEGATION if text.startswith("-") else ATOM
            case Var(name):
                return self.name(name, "int32"), ATOM
            case Local(name, dtype):
                return self.local(name, dtype), ATOM
            case Load(buffer, indices):
                return self.element(buffer, indices), ATOM
            case Cast(a, dtype):
                return self.cast(a, dtype)
            case Select(condition, a, b):
                return self.call(self.choice, condition, a, b)
            case Unary():
                return self.unary(e)
            case Binary():
                return self.binary(e)

    def literal(self, value: float | int | bool, dtype: str) -> str:
        """A constant that reads back exactly."""
        raise NotImplementedError

    def local(self, name: str, dtype: str) -> str:
        """The value of a scalar."""
        return self.name(name, dtype)

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer, to be read or written."""
        raise NotImplementedError

    def cast(self, a: Expr, dtype: str) -> Text:
        """A conversion to `dtype`."""
        raise NotImplementedError

    def unary(self, e: Unary) -> Text:
        """An operator of one operand."""
        if e.operator in self.calls:
            return self.call(self.calls[e.operator], e.a)
        if e.operator == "not":
            return f"not {self.side(e.a, _COMPARISON)}", 0
        return f"-{self.side(e.a, NEGATION)}", NEGATION

    def binary(self, e: Binary) -> Text:
        """An operator of two operands."""
        if e.operator in self.calls:
            return self.call(self.calls[e.operator], e.a, e.b)
        sign, strength = _SIGNS[e.operator]
        left = strength + (strength in (_COMPARISON, _POWER))
        return f"{self.side(e.a, left)} {sign} {self.side(e.b, strength + 1)}", strength

    def call(self, function: str, *operands: Expr) -> Text:
        """A call of a function."""
        return f"{function}({', '.join(self.text(e) for e in operands)})", ATOM

    def side(self, e: Expr, least: int) -> str:
        """An operand, in brackets unless it binds at least that tightly."""
        text, strength = self.print(e)
        return text if strength >= least else f"({text})"


def comment(origins: Sequence[str], most: int = 6) -> list[str]:
    """The line `# from node_a MatMul, node_b Add`, or none; an origin reads `name (Operator)`.

    The names come from a model file: 40 characters of [A-Za-z0-9_.] are left of each.
    """
    if not origins:
        return []
    parts = [" ".join(_clean(word.rstrip(")")) for word in origin.rsplit(" (", 1)) for origin in origins[:most]]
    more = f" and {len(origins) - most} more" if len(origins) > most else ""
    return [f"# from {', '.join(parts)}{more}"]


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:40]


class Names:
    """One identifier per name and role, moved aside where it is a keyword, is reserved or belongs to another one.

    The role is `buffer` or a scalar's type, since a variable has one type for good.
    """

    def __init__(self, reserved: Iterable[str], prefixes: tuple[str, ...] = ()) -> None:
        self._taken = {*keyword.kwlist, *reserved}
        self._prefixes = prefixes
        self._chosen: dict[tuple[str, str], str] = {}

    def __call__(self, name: str, role: str) -> str:
        """The identifier for `name` in this role, the same at each call."""
        if (name, role) not in self._chosen:
            chosen = f"{name}_" if name.startswith(self._prefixes) else name
            while chosen in self._taken:
                chosen += "_"
            self._taken.add(chosen)
            self._chosen[name, role] = chosen
        return self._chosen[name, role]
