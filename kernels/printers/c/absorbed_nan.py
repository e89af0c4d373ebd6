"""Finds where a NaN that `min` or `max` lets go is made again at once, so that a processor's own instructions do.

    a = max(x, -c); b = min(a, c); y = x - b
keeps a NaN of x in y whatever becomes of it in between: instructions that return the other number, where one side is
NaN, will do for a and b. They are marked by the operators "min_number" and "max_number", which only this printer knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, Expr, For, Let, Local, Nest, Stmt

NUMBERS: Mapping[str, str] = {"min": "min_number", "max": "max_number"}
"""`min` and `max` by the name of what may return the other side where one is NaN."""

_KEEP_NAN = ("add", "sub", "mul")
NeverNan = Callable[[Expr], bool]


def absorbed_nan(body: Sequence[Stmt], never_nan: NeverNan) -> tuple[Stmt, ...]:
    """The statements of one block, with marks on what they compute directly; loops and nests inside stay."""
    return _Block(body, never_nan).marked()


class _Block:
    def __init__(self, body: Sequence[Stmt], never_nan: NeverNan) -> None:
        self.body, self.never_nan = tuple(body), never_nan
        # Scalars that are the clipped value of another one: name -> the place, and that one.
        self.clipped: dict[str, tuple[int, Local]] = {}

    def marked(self) -> tuple[Stmt, ...]:
        """The block's statements, marked."""
        for i, s in enumerate(self.body):
            base = self.base(s.value) if isinstance(s, Let) and not s.mutable and _is_extremum(s.value) else None
            if isinstance(s, Let) and base is not None:
                self.clipped[s.name] = i, base
        while True:
            kept = {name: at for name, at in self.clipped.items() if self.is_absorbed(name)}
            if len(kept) == len(self.clipped):
                break
            self.clipped = kept
        return tuple(s if isinstance(s, For | Nest) else self.statement(s) for s in self.body)

    def statement(self, s: Stmt) -> Stmt:
        if isinstance(s, Let) and s.name in self.clipped:
            return replace(s, value=self.number(s.value))
        return build.map_stmt(s, self.sum)

    def sum(self, e: Expr) -> Expr | None:
        """The expression with marks in it, where it adds a clipped number and the number itself."""
        if isinstance(e, Binary) and e.operator in _KEEP_NAN and e.dtype.startswith("float"):
            for one, other in ((e.a, e.b), (e.b, e.a)):
                if _is_extremum(one) and self.base(one) == other:
                    a, b = (self.number(x) if x == one else x for x in (e.a, e.b))
                    return replace(e, a=a, b=b)
        return None

    def number(self, e: Expr) -> Expr:
        """The chain of extrema with marks."""
        if not isinstance(e, Binary) or not _is_extremum(e):
            return e
        return Binary(NUMBERS[e.operator], self.number(e.a), self.number(e.b), e.dtype)

    def base(self, e: Expr) -> Local | None:
        """The scalar that a chain of extrema clips to numbers that are never NaN."""
        while isinstance(e, Binary) and _is_extremum(e):
            known = [self.never_nan(e.a), self.never_nan(e.b)]
            if known == [False, True]:
                e = e.a
            elif known == [True, False]:
                e = e.b
            else:
                return None
        if not isinstance(e, Local):
            return None
        return self.clipped[e.name][1] if e.name in self.clipped else e

    def is_absorbed(self, name: str) -> bool:
        """Whether all that is made of a clipped scalar is NaN where the one it was made from is."""
        at, base = self.clipped[name]
        later = self.body[at + 1 :]
        if any(isinstance(s, Let | Assign) and s.name in (base.name, name) for s in build.statements(later)):
            return False
        return all(self.keeps(s, name, base) for s in build.statements(later) if not isinstance(s, For | Nest))

    def keeps(self, s: Stmt, name: str, base: Local) -> bool:
        """Whether a statement makes nothing of a clipped scalar that a NaN would be missed in."""
        if isinstance(s, Let) and s.name in self.clipped and s in self.body:
            return True  # clipped further: what becomes of that is asked for its own
        scalar = Local(name, base.dtype)

        def without(e: Expr) -> Expr | None:
            kept = isinstance(e, Binary) and e.operator in _KEEP_NAN and {e.a, e.b} == {scalar, base}
            return base if kept else None

        tops = [build.map_expr(e, without) for e in build.expressions(s)]
        return all(x != scalar for top in tops for x in build.walk(top))


def _is_extremum(e: Expr) -> bool:
    return isinstance(e, Binary) and e.operator in NUMBERS and e.dtype.startswith("float")
