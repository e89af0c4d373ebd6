"""Statements of the loop representation as lines of C."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import loop_range
from unfoldc.kernels.loops import Assign, Binary, Const, Expr, For, Let, Local, Nest, Stmt, Store
from unfoldc.kernels.printers.c.absorbed_nan import absorbed_nan
from unfoldc.kernels.printers.c.expressions import Expressions
from unfoldc.kernels.printers.c.load_multiple import LoadMultiple
from unfoldc.kernels.printers.c.vectors import Vectors
from unfoldc.kernels.printers.c_api.text import comment, wrap

_PAD = "    "
_MANY_SUMS = 8  # so many additions give the loads before them enough time, and leave few registers for more


class Statements:
    """Prints bodies. `vector_loops` says whether a loop was marked with the macro `vector_mark` (no mark if empty).

    `vectors` prints the loops of the kind "lanes"; without, they are loops like others. `unroll_mark` is the same for
    loops to unroll, `rolled_mark` for those to leave as they are (`rolled_loops`: one was), `round_mark`
    (`rounds`) stands between rounds of additions to the same sums. `numbers`: a processor may have instructions for
    `min` and `max` that lose NaN, to be used where something else keeps it. `loads` prints reads of neighbouring
    numbers as one statement.
    """

    def __init__(
        self,
        expressions: Expressions,
        vector_mark: str,
        vectors: Vectors | None = None,
        unroll_mark: str = "",
        loads: LoadMultiple | None = None,
        rolled_mark: str = "",
        round_mark: str = "",
        numbers: bool = False,
        here_mark: str = "",
    ) -> None:
        self.expressions = expressions
        self._place = expressions.place
        self.vector_loops = False
        self._mark, self._unroll_mark, self._rolled_mark = vector_mark, unroll_mark, rolled_mark
        self._round_mark, self._here_mark, self._numbers = round_mark, here_mark, numbers
        self.rolled_loops = self.rounds = self.placed = self.hides = False
        self._vectors, self._loads = vectors, loads

    def hidden(self, body: Sequence[Stmt], used: Collection[str]) -> list[str]:
        """Prepares for a function; where it has scalars that are not to be moved, lines with pointers to constants.

        A compiler that knows a constant reads it once and puts it aside in memory, where it is already.
        """
        self.expressions.place = self._place
        mark, buffers = self._here_mark, self.expressions.program.buffers
        if not mark or not is_placed(body):
            return []
        names = {n: f"{n}_here" for n, b in buffers.items() if n in used and b.space == "constant"}
        self.expressions.place = {**self._place, **names}
        self.hides |= bool(names)
        return [
            line for n, own in names.items()
            for line in (f"const {self.expressions.element_type(n)} *{own} = {self._place[n]};", f"{mark}_AT({own});")
        ]  # fmt: skip

    def block(self, body: Sequence[Stmt], depth: int) -> list[str]:
        """The lines of a body."""
        if self._numbers:
            body = absorbed_nan(body, self.expressions.never_nan)
        blocks = self._loads.blocks(body) if self._loads is not None else {}
        lines: list[str] = []
        covered = 0
        rounds = _rounds(body) if self._round_mark else frozenset()
        for i, s in enumerate(body):
            if i in rounds:
                self.rounds = True
                lines.append(f"{_PAD * depth}{self._round_mark};")
            if self._loads is not None and i in blocks:
                first = self.expressions.element(blocks[i].first.buffer, blocks[i].first.indices)
                lines += wrap(_PAD * depth + self._loads.call(blocks[i], first))
                covered = i + blocks[i].length
            elif i >= covered:
                lines += self._statement(s, depth)
        return lines

    def _statement(self, s: Stmt, depth: int) -> list[str]:
        pad = _PAD * depth
        match s:
            case Nest(origins, body):
                note = [pad + line for line in comment(origins)]
                turned = self._vectors.turned(body, self.expressions) if self._vectors is not None else ""
                if turned:
                    return [*note, *wrap(pad + turned)]
                if not any(isinstance(b, Let) for b in body):
                    return [*note, *self.block(body, depth)]
                return [*note, pad + "{", *self.block(body, depth + 1), pad + "}"]
            case For():
                return self._loop(s, depth)
            case Let(name):
                kind, value = self.expressions.declared(s)
                if s.placed and self._here_mark:
                    self.placed = True
                    return [*wrap(f"{pad}{kind} {name} = {value};"), f"{pad}{self._here_mark}({name});"]
                line = f"{'' if s.mutable else 'const '}{kind} {name} = {value};"
            case Assign(name, value):
                line = self._assign(name, value)
            case Store(buffer, indices, value):
                line = f"{self.expressions.target(buffer, indices)} = {self.expressions.stored(value)};"
        return wrap(pad + line)

    def _loop(self, s: For, depth: int) -> list[str]:
        pad = _PAD * depth
        if s.kind == "lanes" and self._vectors is not None:
            expressions = self._vectors.expressions(s, self.expressions)
            inner = Statements(expressions, "", unroll_mark=self._vectors.unroll)
            in_order = f"{pad}{_PAD}{self._vectors.mark}"
            return [pad + "{", in_order, *inner.block(s.body, depth + 1), pad + "}"]
        whole = self.expressions.at_once(s)
        if whole:
            return wrap(pad + whole)
        outer = self.expressions.ranges.get(s.var)
        extent = str(s.extent) if isinstance(s.extent, int) else self.expressions.text(s.extent)
        self.expressions.ranges[s.var] = loop_range(s)
        body = self.block(s.body, depth + 1)
        del self.expressions.ranges[s.var]
        if outer is not None:
            self.expressions.ranges[s.var] = outer
        mark = []
        if self._mark and s.kind == "vector" and not any(isinstance(b, For | Nest) for b in s.body):
            self.vector_loops = True
            mark = [pad + self._mark]
        elif self._unroll_mark and s.kind == "unroll":
            mark = [pad + self._unroll_mark]
        elif self._rolled_mark and s.kind == "rolled":
            self.rolled_loops = True
            mark = [pad + self._rolled_mark]
            if self._round_mark and all(_is_same(b) for b in s.body):
                self.rounds = True  # or it becomes `memset`, which takes three instructions for a word
                body.append(f"{pad}{_PAD}{self._round_mark};")
        return [*mark, f"{pad}for (int32_t {s.var} = 0; {s.var} < {extent}; {s.var}++) {{", *body, pad + "}"]

    def _assign(self, name: str, value: Expr) -> str:
        added = isinstance(value, Binary) and value.operator == "add" and value.dtype.startswith("float")
        if added and isinstance(value, Binary) and value.a == Local(name, value.dtype):
            return f"{name} += {self.expressions.text(value.b)};"
        return f"{name} = {self.expressions.stored(value)};"


def is_placed(body: Sequence[Stmt]) -> bool:
    """Whether a part is in an order that is to stay: whether it has scalars that are not to be moved."""
    return any(isinstance(s, Let) and s.placed for s in build.statements(tuple(body)))


def _is_same(s: Stmt) -> bool:
    """Whether a statement stores the same number in each run of a loop, or names it."""
    if isinstance(s, Let):
        return isinstance(s.value, Const)
    return isinstance(s, Store) and isinstance(s.value, Const | Local)


def _rounds(body: Sequence[Stmt]) -> frozenset[int]:
    """Where, in a row of additions to sums, a sum is added to again."""
    found: set[int] = set()
    seen: set[str] = set()
    for i, s in enumerate(body):
        if not isinstance(s, Assign):
            seen = set()
        elif s.name in seen and len(seen) >= _MANY_SUMS:
            found.add(i)
            seen = {s.name}
        else:
            seen.add(s.name)
    return frozenset(found)


def without_unread(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body without scalars that nothing is made of, which compilers warn of, and without loops left empty."""
    before = tuple(body)
    while (after := _without_unread(before, frozenset())) != before:  # a scalar may be read by an unread one
        before = after
    return after


def _without_unread(body: Sequence[Stmt], unread: frozenset[str]) -> tuple[Stmt, ...]:
    kept: list[Stmt] = []
    for i, s in enumerate(body):
        if isinstance(s, Let) and not s.placed:
            unread = unread - {s.name} if _reads(body[i + 1 :], s.name) else unread | {s.name}
        if isinstance(s, For | Nest):
            inner = _without_unread(s.body, unread)
            if inner or not s.body:
                kept.append(replace(s, body=inner))
        elif not (isinstance(s, Let | Assign) and s.name in unread):
            kept.append(s)
    return tuple(kept)


def _reads(body: Sequence[Stmt], name: str) -> bool:
    """Whether a scalar is read, other than to give itself a new value."""
    for s in build.statements(tuple(body)):
        if isinstance(s, Assign) and s.name == name:
            continue
        if any(isinstance(e, Local) and e.name == name for e in build.within((s,))):
            return True
    return False
