"""What lanes compute between barriers, as lines of TVM's script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby

from unfoldc.kernels.gpu.choices import WARP
from unfoldc.kernels.gpu.mapping import Mapped
from unfoldc.kernels.gpu.parts import LANE, All, Combine, One, Settle, Share, Work, indexed_by, loop_level, nested_loops
from unfoldc.kernels.loops import Assign, Binary, Const, Expr, For, Let, Local, Nest, Store, Var
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.cuda.dealer import PAD, Dealer, deeper, guards_of
from unfoldc.kernels.printers.python_text import Names
from unfoldc.kernels.printers.tvm_cuda.expressions import KernelExpressions
from unfoldc.kernels.printers.tvm_cuda.places import Elements

WAIT_WARP = 'T.evaluate(T.call_extern("void", "__syncwarp"))'
WAIT_BLOCK = 'T.evaluate(T.tvm_storage_sync("shared"))'
_ROUNDS = 16  # that are written out
_TURN = "number of the round"  # no name of a program's variable
_OTHER = "other"  # a scalar of another lane


@dataclass
class KernelText:
    """What all parts of a kernel share: its names, its expressions, and the round in which shared runs are."""

    mapped: Mapped
    arguments: Arguments
    names: Names
    turn: Expr = Const(0, "int32")
    expressions: KernelExpressions = field(init=False)

    def __post_init__(self) -> None:
        self.expressions = KernelExpressions(self.names, self.element, _without_nan(self.mapped))
        self._elements = Elements(self.mapped, self.arguments, self.names)

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """One element of a buffer."""
        return self._elements.text(buffer, indices, self.turn, self.expressions.text)

    def constant(self, variable: str, value: str, kind: str = "int32") -> tuple[str, str]:
        """A new name for a variable's value, and the line that declares it."""
        identifier = self.expressions.fresh(variable)
        return identifier, f"{identifier}: T.let[T.{kind}] = {value}"

    def loop(self, variable: str, extent: str, unrolled: bool = False) -> tuple[str, str]:
        """A new name for a loop's variable, and the loop's first line."""
        identifier = self.expressions.fresh(variable)
        return identifier, f"for {identifier} in {'T.unroll' if unrolled else 'range'}({extent}):"

    @contextmanager
    def reading(self, **variables: str) -> Iterator[None]:
        """Inside, these variables are read so."""
        before = self.expressions.variables
        self.expressions.variables = {**before, **variables}
        try:
            yield
        finally:
            self.expressions.variables = before

    @contextmanager
    def in_turn(self, turn: Expr) -> Iterator[None]:
        """Inside, shared runs are in this round."""
        before, self.turn = self.turn, turn
        try:
            yield
        finally:
            self.turn = before


def _without_nan(mapped: Mapped) -> frozenset[str]:
    constants = mapped.program.constants
    return frozenset(n for n, v in constants.items() if v.dtype.kind != "f" or not (v != v).any())


@dataclass(frozen=True)
class WorkPrinter:
    """Prints parts; `own` is the text of a lane's number in its team, `guards` what must hold for a store."""

    kernel: KernelText
    dealer: Dealer
    own: str = "lane"
    guards: tuple[str, ...] = ()

    def part(self, part: Share | All | One) -> list[str]:
        """The lines of a part."""
        if isinstance(part, Share):
            return self._share(part)
        with self.kernel.reading(**{LANE: self.own}):  # all lanes of the group may be a team
            lines = self.body(part.body)
        if isinstance(part, All) or self.dealer.count == 1:
            return lines
        return [f"if {self.dealer.lane} == 0:", *deeper(lines)]

    # -- shared runs ---------------------------------------------------------------------------------------------

    def _share(self, part: Share) -> list[str]:
        if self.dealer.count == 1:
            return self.body(nested_loops(part.loops, loop_level(part.body)))
        own = replace(self, own=f"lane_{part.team}") if part.team > 1 else self
        return own.rounds(part, any(isinstance(s, Combine | Settle) for s in part.body))

    def rounds(self, part: Share, together: bool) -> list[str]:
        """All rounds; `together` lets lanes without a run of their own wait with the others."""
        kernel, runs = self.kernel, part.runs
        team, teams = self.dealer.team(part.team), self.dealer.teams(part.team)
        if self.dealer.is_grid or not isinstance(runs, int):
            count = self._extent(runs)
            rounds = f"T.truncdiv({count} + {teams} - 1{'' if together else f' - {team}'}, {teams})"
            turn, head = kernel.loop("turn", rounds)
            return [head, *deeper(self._round(part, f"{team} + {turn} * {teams}", count if together else "", together))]
        size = self.dealer.count // part.team
        total = -(-runs // size)
        if total > _ROUNDS:
            turn, head = kernel.loop("turn", str(total))
            with kernel.in_turn(Var(_TURN)), kernel.reading(**{_TURN: turn}):
                return [head, *deeper(self._round(part, f"{team} + {turn} * {size}", str(runs), together))]
        lines = []
        for r in range(total):
            with kernel.in_turn(Const(r, "int32")):
                place = f"{team} + {r * size}" if r else team
                lines += self._round(part, place, str(runs) if (r + 1) * size > runs else "", together)
        return lines

    def _round(self, part: Share, place: str, count: str, together: bool) -> list[str]:
        """The runs of one round, this lane's at `place`; `count` says how many there are where some may have none."""
        at, line = self.kernel.constant("at", place)
        if not count:
            return [line, *self._run(part, at)]
        if together:
            mine, second = self.kernel.constant("mine", f"{at} < {count}", "bool")
            return [line, second, *replace(self, guards=(mine,))._run(part, at)]
        return [line, f"if {at} < {count}:", *deeper(self._run(part, at))]

    def _run(self, part: Share, at: str) -> list[str]:
        lines: list[str] = []
        variables: dict[str, str] = {LANE: self.own}
        step = 1
        for i, (variable, extent) in reversed(list(enumerate(part.loops))):
            if len(part.variables) == 1:
                variables[variable] = at
                break
            assert isinstance(extent, int)
            text = f"T.truncdiv({at}, {step})" if step > 1 else at
            variables[variable], line = self.kernel.constant(variable, f"T.truncmod({text}, {extent})" if i else text)
            lines.append(line)
            step *= extent
        leader = (f"{self.own} == 0",) if part.team > 1 else ()
        inner = replace(self, guards=leader)
        with self.kernel.reading(**variables):
            return [*lines, *(inner.guarded(part.body, self.guards[0]) if self.guards else inner.body(part.body))]

    def guarded(self, body: Sequence[Work], condition: str) -> list[str]:
        """The lines of statements; lanes for which the condition does not hold only wait with the others."""
        expressions = self.kernel.expressions
        lines = []
        for name, dtype in dict.fromkeys((s.name, s.dtype) for s in body if isinstance(s, Combine)):
            lines.append(f"{expressions.local(name, dtype)} = {expressions.literal(0, dtype)}")
        for is_work, group in groupby(body, lambda s: not isinstance(s, Combine | Settle)):
            inner = self.body(list(group))
            lines += [f"if {condition}:", *deeper(inner)] if is_work else inner
        return lines

    def _extent(self, extent: int | Expr) -> str:
        return str(extent) if isinstance(extent, int) else self.kernel.expressions.text(extent)

    # -- statements ----------------------------------------------------------------------------------------------

    def body(self, body: Sequence[Work]) -> list[str]:
        """The lines of statements."""
        return [line for s in body for line in self._statement(s)] or ["pass"]

    def _statement(self, s: Work) -> Iterator[str]:
        expressions = self.kernel.expressions
        match s:
            case Let(name, value) | Assign(name, value):
                expressions.start()
                text = expressions.text(value)
                yield from (*expressions.temporaries, f"{expressions.local(name, value.dtype)} = {text}")
            case Store(buffer, indices, value):
                expressions.start()
                text = self._stored(value)
                line = f"{expressions.element(buffer, indices)} = {text}"
                guards = guards_of(self.kernel.mapped, buffer, self.guards)
                lines = [*expressions.temporaries, line]
                yield from [f"if {_both(guards)}:", *deeper(lines)] if guards else lines
            case For(variable, extent, inner):
                expressions.start()
                identifier, head = self.kernel.loop(variable, self._extent(extent), self._private_by(s))
                with self.kernel.reading(**{variable: identifier}):
                    yield from [*expressions.temporaries, head, *deeper(self.body(inner))]
            case Nest(_, inner):
                yield from self.body(inner)
            case Combine():
                yield from self._combine(s)
            case Settle():
                yield WAIT_WARP

    def _stored(self, value: Expr) -> str:
        text = self.kernel.expressions.text(value)
        return f'T.Cast("uint8", {text})' if value.dtype == "bool" else text

    def _private_by(self, loop: For) -> bool:
        """Whether a loop's variable says which of a lane's own elements is meant: written out, they are registers."""
        places = self.kernel.mapped.places
        return isinstance(loop.extent, int) and any(places[name].is_private for name in indexed_by(loop))

    def _combine(self, s: Combine) -> Iterator[str]:
        """Shuffles within a warp, then the warps' results through shared memory, in their order."""
        expressions = self.kernel.expressions
        name = expressions.local(s.name, s.dtype)
        by = 1
        while by < min(s.team, WARP):
            yield from self._with(s, f"T.tvm_warp_shuffle_xor(T.uint32({2**WARP - 1}), {name}, {by}, {WARP}, {WARP})")
            by *= 2
        if s.team > WARP:
            area = f"exchange_{s.dtype}"
            yield f"if T.bitwise_and(lane, {WARP - 1}) == 0:"
            yield f"{PAD}{area}[T.shift_right(lane, 5)] = {name}"
            yield WAIT_BLOCK
            yield f"{name} = {area}[0]"
            warp, head = self.kernel.loop("warp", str(s.team // WARP - 1))
            yield head
            yield from deeper(list(self._with(s, f"{area}[{warp} + 1]")))
            yield WAIT_BLOCK

    def _with(self, s: Combine, other: str) -> Iterator[str]:
        """The scalar, combined with another one."""
        expressions = self.kernel.expressions
        expressions.start()
        yield f"{expressions.local(_OTHER, s.dtype)} = {other}"
        own = Local(s.name, s.dtype)
        text = expressions.text(Binary(s.operator, own, Local(_OTHER, s.dtype), s.dtype))
        yield from (*expressions.temporaries, f"{expressions.local(s.name, s.dtype)} = {text}")


def _both(conditions: Sequence[str]) -> str:
    text = conditions[0]
    for other in conditions[1:]:
        text = f"T.And({text}, {other})"
    return text
