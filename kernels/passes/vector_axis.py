"""Whether neighbouring results can be the elements of a vector, and how constants must be laid out for that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import accesses, reading
from unfoldc.kernels.index_bounds import half_turned, linear
from unfoldc.kernels.lane_indices import border, stopping
from unfoldc.kernels.loops import (
    COMPARISONS,
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
    LoopProgram,
    Nest,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.passes.pack_operands import copied, moved

_FLOATS = ("float32", "float64")
# A twin costs a copy for each solve; where rows are long, sums along them are as fast.
FEWEST_ITERATIONS = 4
LARGEST_TWIN = 64 * 1024  # bytes


@dataclass(frozen=True)
class VectorAxis:
    """Results along `var` are elements of vectors of `dtype`.

    sums: how many accumulators one result has, at least 1. vectors: for each load of a vector within a loop, the
    variables that it depends on. moved: bytes of constants that are read across their rows. whole: how many results
    there must be, in one vector, because something is read with its halves exchanged; 0 where that does not matter.
    """

    var: str
    dtype: str
    sums: int
    vectors: tuple[frozenset[str], ...]
    moved: int
    whole: int = 0


class Layouts:
    """The buffers and constants of a program, among them those that were laid out anew.

    What `begin` leaves for all iterations, and an input, gets a copy with another axis last, its twin, where iterations
    need one (`in_step` says that one is being looked at).
    """

    def __init__(self, program: LoopProgram) -> None:
        self.buffers, self.constants = dict(program.buffers), dict(program.constants)
        self.in_step = False
        self._fixed = fixed_buffers(program) if program.iterations >= FEWEST_ITERATIONS else frozenset()
        self._made: dict[tuple[str, int, int, int, int], str] = {}
        self._twins: dict[tuple[str, int], str] = {}

    def may_have_twin(self, name: str) -> bool:
        """Whether iterations may read a copy of the buffer in another order."""
        return self.in_step and name in self._fixed and self.buffers[name].nbytes <= LARGEST_TWIN

    def twins(self) -> list[Nest]:
        """What fills the twins, to stand at the end of `begin`."""
        return [copied(self.buffers[name], axis, twin) for (name, axis), twin in self._twins.items()]

    def laid_out(
        self, body: Sequence[Stmt], var: str, block: Expr, within: Expr, start: int, shape: tuple[int, int]
    ) -> tuple[Stmt, ...]:
        """The body for the results from `start` on, (count, width) = `shape` of them, with their constants apart.

        What is read of a constant along `var` becomes a constant of its own, in the order of reading: all that
        result `within` of block `block` reads stands before what the next block reads.
        """

        def change(e: Expr) -> Expr | None:
            if not isinstance(e, Load):
                return None
            if e.buffer not in self.constants:
                return self._from_twin(e, var)
            at = [i for i, index in enumerate(e.indices) if Var(var) in build.walk(index)]
            others = [i for a, i in enumerate(e.indices) if a not in at]
            if not at or e.indices[at[0]] != Var(var) or all(isinstance(i, Const) for i in others):
                return None
            lead = int(bool(others) and Var(ITERATION) in build.walk(others[0]))
            name = self._packed(e.buffer, at[0], lead, start, shape)
            return Load(name, (*others[:lead], block, *others[lead:], within), e.dtype)

        return tuple(build.map_stmt(s, change) for s in body)

    def _from_twin(self, e: Load, var: str) -> Load | None:
        at = [a for a, index in enumerate(e.indices) if Var(var) in build.walk(index)]
        if not at or not self.may_have_twin(e.buffer) or all(n == 1 for n in self.buffers[e.buffer].shape[at[0] + 1 :]):
            return None
        if (e.buffer, at[0]) not in self._twins:
            new = f"{e.buffer}_by{at[0]}"
            old = self.buffers[e.buffer]
            self.buffers[new] = Buffer(new, old.dtype, moved(old.shape, at[0]), "state")
            self._twins[e.buffer, at[0]] = new
        return Load(self._twins[e.buffer, at[0]], moved(e.indices, at[0]), e.dtype)

    def used_by(self, program: LoopProgram) -> LoopProgram:
        """The program with these buffers, without constants that it does not read."""
        return reading(program, self.buffers, self.constants)

    def _packed(self, name: str, axis: int, lead: int, start: int, shape: tuple[int, int]) -> str:
        """Elements from `start` on along an axis, as `(lead.., count, others.., width)`."""
        count, width = shape
        key = (name, axis, start, count, width)
        if key not in self._made:
            rows = np.moveaxis(self.constants[name], axis, -1)[..., start : start + count * width]
            blocks = rows.reshape(*rows.shape[:-1], count, width)
            array = np.ascontiguousarray(np.moveaxis(blocks, -2, lead))
            new = f"{name}_{len(self._made)}"
            self.constants[new] = array
            self.buffers[new] = replace(self.buffers[name], name=new, shape=array.shape)
            self._made[key] = new
        return self._made[key]


def vector_axis(
    body: Sequence[Stmt], var: str, layouts: Layouts, variables: Collection[str], border: int = 0
) -> VectorAxis | None:
    """How the results along `var`, one of the `variables` around the body, become vectors; None if they cannot.

    Where there are no more of them than a vector has elements, `border` is their number: elements may differ in where
    their index stops.
    """
    check = _Check(var, layouts, frozenset(variables), border)
    try:
        check.block(body, inside=False)
    except _OtherForm:
        return None
    if len(check.types) != 1 or not check.stored:
        return None
    (dtype,) = check.types
    return VectorAxis(var, dtype, max(1, check.sums), tuple(check.vectors), check.moved, check.whole)


class _OtherForm(Exception):
    """The body has something that vectors cannot do."""


@dataclass
class _Check:
    var: str
    layouts: Layouts
    variables: frozenset[str]
    border: int
    types: set[str] = field(default_factory=set)
    varying: set[str] = field(default_factory=set)
    vectors: list[frozenset[str]] = field(default_factory=list)
    moved: int = 0
    whole: int = 0
    sums: int = 0
    stored: bool = False

    def block(self, body: Sequence[Stmt], inside: bool) -> None:
        for s in body:
            match s:
                case For():
                    self.block(s.body, True)
                case Let(name, value, mutable):
                    if self.varies(value, inside) or mutable:
                        self.varying.add(name)
                        self.typed(value, mutable)
                    self.sums += mutable
                case Assign(_, value):
                    self.varies(value, inside)
                    self.typed(value, True)
                case Store(buffer, indices, value):
                    self.varies(value, inside)
                    self.typed(value, True)
                    if self.axis_of(buffer, indices) is None or inside:
                        raise _OtherForm
                    self.stored = True
                case _:
                    raise _OtherForm

    def typed(self, value: Expr, number: bool) -> None:
        """Vectors hold one type of number, or conditions."""
        if value.dtype in _FLOATS:
            self.types.add(value.dtype)
        elif number or value.dtype != "bool":
            raise _OtherForm

    def varies(self, e: Expr, inside: bool) -> bool:
        """Whether the value differs from result to result; _OtherForm where it cannot be a vector."""
        match e:
            case Var(name):
                if name == self.var:
                    raise _OtherForm
                return False
            case Local(name):
                return name in self.varying
            case Load(buffer, indices):
                return self.load(e, buffer, indices, inside)
            case Unary(a=a) | Cast(a=a):
                result = self.varies(a, inside)
                allowed = not isinstance(e, Cast) or a.dtype in ("bool", e.dtype)
            case Binary() if self.border and border(e, self.var) is not None:
                self.uniform(e)
                return True
            case Binary(operator, a, b):
                result = self.varies(a, inside) | self.varies(b, inside)
                allowed = a.dtype != "bool" or operator in ("and", "or", "eq", "ne")
                allowed &= operator not in COMPARISONS or a.dtype in (*_FLOATS, "bool")
            case Select(condition, a, b):
                parts = [self.varies(x, inside) for x in (condition, a, b)]
                result, allowed = any(parts), e.dtype in _FLOATS
            case _:
                return False
        if result:
            self.typed(e, number=False)
            if not allowed:
                raise _OtherForm
        return result

    def load(self, e: Load, buffer: str, indices: tuple[Expr, ...], inside: bool) -> bool:
        used = {x.name for i in indices for x in build.walk(i) if isinstance(x, Var)}
        if any(self.index_varies(i) for i in indices):
            raise _OtherForm
        if self.var not in used:
            return False
        at = self.axis_of(buffer, indices)
        turned = half_turned(indices[-1], self.var)
        if at is None and turned and turned == self.layouts.buffers[buffer].shape[-1]:
            if self.whole not in (0, turned) or any(Var(self.var) in build.walk(i) for i in indices[:-1]):
                raise _OtherForm
            self.whole = turned
        elif at is None and not self.stops(buffer, indices):
            moved = self.axis_of(buffer, indices, contiguous=False)
            # A constant is laid out anew where it is read at `var` itself.
            constant = buffer in self.layouts.constants and moved is not None and indices[moved] == Var(self.var)
            if moved is None or not (constant or self.layouts.may_have_twin(buffer)):
                raise _OtherForm
            self.moved += self.layouts.buffers[buffer].nbytes
        self.typed(e, number=True)
        if inside:
            self.vectors.append(frozenset(used & self.variables))
        return True

    def uniform(self, comparison: Binary) -> None:
        """_OtherForm unless what an index is compared with is the same for all elements."""
        inner = build.walk(comparison)
        if any(isinstance(x, Load) or (isinstance(x, Local) and x.name in self.varying) for x in inner):
            raise _OtherForm

    def stops(self, buffer: str, indices: tuple[Expr, ...]) -> bool:
        """Whether neighbours are read, as far as there are any."""
        shape = self.layouts.buffers[buffer].shape
        at = [a for a, i in enumerate(indices) if Var(self.var) in build.walk(i)]
        if not self.border or len(at) != 1 or any(n != 1 for n in shape[at[0] + 1 :]):
            return False
        return stopping(indices[at[0]], self.var, self.border, shape[at[0]]) is not None

    def index_varies(self, index: Expr) -> bool:
        """Whether an index depends on a value that differs from result to result."""
        inner = build.walk(index)
        if any(isinstance(x, Local) and x.name in self.varying for x in inner):
            return True
        return any(isinstance(x, Load) and Var(self.var) in build.walk(x) for x in inner)

    def axis_of(self, buffer: str, indices: tuple[Expr, ...], contiguous: bool = True) -> int | None:
        """The one axis along which the place moves by 1 as `var` does; contiguous: its elements are neighbours."""
        at = [a for a, i in enumerate(indices) if Var(self.var) in build.walk(i)]
        if len(at) != 1:
            return None
        terms = linear(indices[at[0]]).terms
        if terms.pop(Var(self.var), 0) != 1 or any(Var(self.var) in build.walk(e) for e in terms):
            return None
        behind = self.layouts.buffers[buffer].shape[at[0] + 1 :]
        return at[0] if not contiguous or all(n == 1 for n in behind) else None


def fixed_buffers(program: LoopProgram) -> frozenset[str]:
    """Inputs, and what begin alone writes, unless an iteration reads a part of its own."""
    found = accesses(s for step in program.steps for s in step.body)
    written = {a.buffer for a in found if a.stored}
    streams = {a.buffer for a in found if any(Var(ITERATION) in build.walk(i) for i in a.indices)}
    kept = {n for n, b in program.buffers.items() if b.space in ("input", "state")}
    return frozenset(kept - written - streams)
