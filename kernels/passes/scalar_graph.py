"""The operations of a body without its loops: a graph of scalars, in which what is computed twice is there once.

Loops run here, with numbers for their variables; what the body stores and reads again passes from operation to
operation without memory. Sums keep their order. What a constant array multiplies by 0 is left out, as for matrices with
bands of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import (
    ITERATION,
    Assign,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)

Place = tuple[str, tuple[Expr, ...]]
"""A buffer and indices that hang on nothing but the number of the iteration."""


_LEAVES = 4  # for an operation


class NotScalarError(Exception):
    """The body has an index or an extent that data decides, or more operations than were allowed."""


@dataclass(frozen=True)
class Scalar:
    """One operation: `shape` is its expression with numbered `Local`s, named "0", "1", ..., for `operands`."""

    shape: Expr
    operands: tuple[int, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether it takes no operation."""
        return isinstance(self.shape, Load | Const | Var)


@dataclass
class ScalarGraph:
    """Operations in an order in which they can be carried out, and what is stored in the end: place -> operation."""

    buffers: Mapping[str, Buffer]
    constants: Mapping[str, np.ndarray]
    most: int
    first: int = 0
    scalars: list[Scalar] = field(default_factory=list)
    stored: dict[Place, int] = field(default_factory=dict)
    origins: list[str] = field(default_factory=list)
    _numbers: dict[Scalar, int] = field(default_factory=dict)
    _columns: dict[tuple[str, bytes], Load] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)
    _read: dict[str, bool] = field(default_factory=dict)
    _count: int = 0
    _zeros: set[int] = field(default_factory=set)

    # -- operations --------------------------------------------------------------------------------------------

    def add(self, shape: Expr, *operands: int) -> int:
        """The number of an operation, the same for the same."""
        scalar = Scalar(shape, operands)
        if scalar not in self._numbers:
            self._count += not scalar.is_leaf
            if self._count > self.most or len(self.scalars) > _LEAVES * self.most:
                raise NotScalarError
            self._numbers[scalar] = len(self.scalars)
            self.scalars.append(scalar)
        return self._numbers[scalar]

    def is_number(self, operand: int, value: float) -> bool:
        """Whether an operation is that literal."""
        shape = self.scalars[operand].shape
        return isinstance(shape, Const) and shape.dtype.startswith("float") and shape.value == value

    def binary(self, operator: str, a: int, b: int, dtype: str) -> int:
        """`a operator b`, which may be one of them."""
        zeros = [x in self._zeros or self.is_number(x, 0.0) for x in (a, b)]
        if operator == "add" and zeros[0]:
            return b
        if operator in ("add", "sub") and zeros[1]:
            return a
        if operator == "mul" and (self.is_number(a, 1.0) or b in self._zeros):
            return b
        if operator == "mul" and a in self._zeros or operator in ("mul", "div") and self.is_number(b, 1.0):
            return a
        kinds = [self.scalars[x].shape.dtype for x in (a, b)]
        return self.add(Binary(operator, Local("0", kinds[0]), Local("1", kinds[1]), dtype), a, b)

    def load(self, buffer: str, indices: tuple[Expr, ...], dtype: str) -> int:
        """An element as it is before the body; equal elements of constants are read in one place."""
        found = Load(buffer, indices, dtype)
        if buffer not in self.constants:
            return self.add(found)
        column = self._column(found)
        if column is None:
            return self.add(found)
        if dtype.startswith("float") and (column == 1.0).all():
            return self.add(build.literal(1.0, dtype))
        number = self.add(self._columns.setdefault((buffer, column.tobytes()), found))
        if dtype.startswith("float") and not column.any():
            self._zeros.add(number)
        return number

    def _column(self, e: Load) -> np.ndarray | None:
        """What a load of a constant gives, in each iteration where the first index is its number."""
        array, (head, *rest) = self.constants[e.buffer], e.indices
        if not all(isinstance(i, Const) for i in rest):
            return None
        at = tuple(int(i.value) for i in rest if isinstance(i, Const))
        if isinstance(head, Const):
            return np.array([array[(int(head.value), *at)]])
        own = build.sub(Var(ITERATION), build.index(self.first))
        return np.array([part[at] for part in array]) if head == own else None

    def wanted(self) -> list[int]:
        """The operations that what is stored is made of."""
        todo, seen = list(self.stored.values()), set()
        while todo:
            number = todo.pop()
            if number not in seen:
                seen.add(number)
                todo.extend(self.scalars[number].operands)
        return sorted(seen)

    # -- statements --------------------------------------------------------------------------------------------

    def run(self, body: Sequence[Stmt], scalars: dict[str, int], loops: Mapping[str, int]) -> None:
        """Carries the statements out; `scalars` are those declared so far, `loops` the variables around."""
        own = dict(scalars)
        for s in body:
            match s:
                case Nest(origins, inner):
                    self.origins += [o for o in origins if o not in self.origins]
                    self.run(inner, own, loops)
                case For(var, extent, inner):
                    for i in range(extent if isinstance(extent, int) else self._integer(extent, loops)):
                        self.run(inner, own, {**loops, var: i})
                case Let(name, value) | Assign(name, value):
                    own[name] = self.value(value, own, loops)
                case Store(buffer, indices, value):
                    result = self.value(value, own, loops)
                    place = (buffer, self._indices(indices, loops))
                    self._note(place, reads=False)
                    self.stored.pop(place, None)
                    self.stored[place] = result
                    if len(self.stored) > self.most:
                        raise NotScalarError
        scalars.update({name: own[name] for name in scalars})

    def value(self, e: Expr, scalars: Mapping[str, int], loops: Mapping[str, int]) -> int:
        """The number of the operation that an expression ends in."""
        match e:
            case Const():
                return self.add(e)
            case Var(name):
                return self.add(build.index(loops[name]) if name in loops else e)
            case Local(name):
                return scalars[name]
            case Load(buffer, indices, dtype):
                place = (buffer, self._indices(indices, loops))
                self._note(place, reads=True)
                known = self.stored.get(place)
                return self.load(*place, dtype) if known is None else known
            case Binary(operator, a, b, dtype):
                sides = self.value(a, scalars, loops), self.value(b, scalars, loops)
                return self.binary(operator, *sides, dtype)
            case Unary(operator, a, dtype):
                return self.add(Unary(operator, Local("0", a.dtype), dtype), self.value(a, scalars, loops))
            case Cast(a, dtype):
                return self.add(Cast(Local("0", a.dtype), dtype), self.value(a, scalars, loops))
            case Select(c, a, b, dtype):
                parts = [self.value(x, scalars, loops) for x in (c, a, b)]
                shape = Select(Local("0", c.dtype), Local("1", a.dtype), Local("2", b.dtype), dtype)
                return self.add(shape, *parts)

    def _note(self, place: Place, reads: bool) -> None:
        """Refuses places of which it is not known whether they are the same."""
        buffer, indices = place
        self._moving |= {buffer} if any(not isinstance(i, Const) for i in indices) else set()
        self._read[buffer] = self._read.get(buffer, False) or reads
        unknown = buffer in self._moving and self._read[buffer]
        if unknown and (not reads or any(name == buffer for name, _ in self.stored)):
            raise NotScalarError

    def _indices(self, indices: Sequence[Expr], loops: Mapping[str, int]) -> tuple[Expr, ...]:
        return tuple(self._index(i, loops) for i in indices)

    def _index(self, e: Expr, loops: Mapping[str, int]) -> Expr:
        if any(isinstance(x, Load | Local) for x in build.walk(e)):
            raise NotScalarError

        def number(x: Expr) -> Expr | None:
            return build.index(loops[x.name]) if isinstance(x, Var) and x.name in loops else None

        return build.map_expr(e, number)

    def _integer(self, e: Expr, loops: Mapping[str, int]) -> int:
        found = self._index(e, loops)
        if not isinstance(found, Const):
            raise NotScalarError
        return int(found.value)
