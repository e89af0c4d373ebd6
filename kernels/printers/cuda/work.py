"""What lanes compute between barriers, as lines of Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from unfoldc.kernels.gpu.choices import WARP
from unfoldc.kernels.gpu.mapping import Mapped
from unfoldc.kernels.gpu.parts import LANE, All, Combine, One, Settle, Share, Work, indexed_by, loop_level, nested_loops
from unfoldc.kernels.loops import Assign, Const, Expr, For, Let, Nest, Store, Var
from unfoldc.kernels.printers.cuda.dealer import PAD, Dealer, deeper, guards_of
from unfoldc.kernels.printers.cuda.expressions import CudaExpressions
from unfoldc.kernels.printers.cuda.places import OWN, Positions
from unfoldc.kernels.printers.cuda.rounds import (
    Localise,
    can_be_side_by_side,
    copied,
    places_of,
    rounds_at_once,
    side_by_side,
    written_out,
)
from unfoldc.kernels.printers.python_text import Names

_ROUNDS = 16  # that are written out
_TURN = "number of the round"  # no name of a program's variable
_SIGNS = {"add": "{0} + {1}", "max": "maximum({0}, {1})", "min": "minimum({0}, {1})"}


@dataclass
class WorkPrinter:
    """Prints parts; `own` is the text of a lane's number in its team, `guards` what must hold for stores."""

    mapped: Mapped
    positions: Positions
    names: Names
    dealer: Dealer
    own: str = "lane"
    guards: tuple[str, ...] = ()
    expressions: CudaExpressions = field(init=False)

    def __post_init__(self) -> None:
        def name(identifier: str, role: str) -> str:
            if identifier in (LANE, _TURN):
                return self.own if identifier == LANE else "turn"
            return self.names(identifier, role)

        self.expressions = CudaExpressions(name, self._element)

    def part(self, part: Share | All | One) -> list[str]:
        """The lines of a part."""
        if isinstance(part, Share):
            return self._share(part)
        if isinstance(part, One) and self.dealer.is_grid:
            # Lanes at the end have often less to do. What they do waits for memory, written out or not.
            doer = "lanes - 1" + (f" - rest({WARP * part.chain}, lanes)" if part.chain else "")
            return [f"if lane == {doer}:", *deeper(self.body(part.body))]
        lines = self.body(self._alone(part.body))
        if isinstance(part, All) or self.dealer.count == 1:
            return lines
        return [f"if {self.dealer.lane} == 0:", *deeper(lines)]

    def _element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        array, place, first = self.positions.memory(buffer, indices)
        text = self.expressions.text(place)
        if not first:
            return f"{array}[{text}]"
        return f"{array}[{first}]" if text == "0" else f"{array}[{first} + {text}]"

    # -- shared runs ---------------------------------------------------------------------------------------------

    def _share(self, part: Share) -> list[str]:
        if self.dealer.count == 1:
            return self.body(self._alone(nested_loops(part.loops, loop_level(part.body))))
        own = replace(self, own=f"lane_{part.team}") if part.team > 1 else self
        return own.rounds(part, any(isinstance(s, Combine | Settle) for s in part.body))

    def rounds(self, part: Share, together: bool) -> list[str]:
        """All rounds; `together` lets lanes without a run of their own wait with the others."""
        team, teams, runs = self.dealer.team(part.team), self.dealer.teams(part.team), part.runs
        at = "at" if len(part.variables) > 1 else self.names(part.variables[0], "int32")
        if self.dealer.is_grid or not isinstance(runs, int):
            end = self._extent(runs)
            body = self._in_round(part, Const(0, "int32"))
            if not together:
                return [f"for {at} in range({team}, {end}, {teams}):", *deeper(self._run(part, at, body))]
            lines = [f"{at} = start + {team}", f"mine = {at} < {end}"]
            lines += replace(self, guards=("mine",))._run(part, at, body)
            return [f"for start in range(0, {end}, {teams}):", *deeper(lines)]
        size = self.dealer.count // part.team
        full, rest = divmod(runs, size)
        lines = []
        done = 0
        if full > _ROUNDS:
            place = f"{team} + turn * {size}"
            body = self._in_round(part, Var(_TURN))
            lines += [f"for turn in range({full}):", *deeper([f"{at} = {place}", *self._run(part, at, body)])]
            done = full
        while done < full:
            count, body = self._some_rounds(part, done, full, size)
            lines += [f"{at} = {_plus(team, done * size)}", *self._run(part, at, body)]
            done += count
        if rest:
            lines += self._last_round(part, at, _plus(team, full * size), Const(full, "int32"), together)
        return lines

    def _some_rounds(self, part: Share, done: int, full: int, size: int) -> tuple[int, tuple[Work, ...]]:
        """How many rounds stand side by side from the round `done` on, and their statements."""
        most = min(rounds_at_once(part), full - done) if can_be_side_by_side(part) else 1
        places = [places_of(part, r * size, size) for r in range(most)]
        bodies = []
        for r, found in enumerate(places):
            # The places are those of the round that the lanes are in, which begins a row where they are in the first.
            if found is None or (done and len(part.variables) > 1):
                break
            turn = Const(done + r, "int32")
            bodies.append(copied(part.body, found, f"_{r}" if most > 1 else "", self._localise(turn)))
        if len(bodies) < 2:
            return 1, self._in_round(part, Const(done, "int32"))
        return len(bodies), side_by_side(bodies)

    def _in_round(self, part: Share, turn: Expr) -> tuple[Work, ...]:
        return copied(part.body, {}, "", self._localise(turn))

    def _localise(self, turn: Expr) -> Localise:
        def localise(buffer: str, indices: tuple[Expr, ...]) -> tuple[str, tuple[Expr, ...]] | None:
            return self.positions.own(buffer, indices, turn)

        return localise

    def _last_round(self, part: Share, at: str, place: str, turn: Expr, together: bool) -> list[str]:
        """A round in which some lanes have no run of their own."""
        body = self._in_round(part, turn)
        if together:
            lines = [f"{at} = {place}", f"mine = {at} < {part.runs}"]
            return [*lines, *replace(self, guards=("mine",))._run(part, at, body)]
        return [f"{at} = {place}", f"if {at} < {part.runs}:", *deeper(self._run(part, at, body))]

    def _run(self, part: Share, at: str, body: Sequence[Work]) -> list[str]:
        lines = []
        if len(part.variables) > 1:
            step = 1
            for i, (variable, extent) in reversed(list(enumerate(part.loops))):
                assert isinstance(extent, int)
                text = f"whole({at}, {step})" if step > 1 else at
                lines.append(f"{self.names(variable, 'int32')} = {f'rest({text}, {extent})' if i else text}")
                step *= extent
        leader = (f"{self.own} == 0",) if part.team > 1 else ()
        inner = replace(self, guards=leader)
        body = self._alone(body)
        return [*lines, *(inner.guarded(body, self.guards[0]) if self.guards else inner.body(body))]

    def _alone(self, body: Sequence[Work]) -> tuple[Work, ...]:
        """The statements with loops written out."""
        return written_out(body, self._whole)

    def _whole(self, loop: For) -> bool:
        """Whether a loop reads or writes what the lane keeps, at places that its variable says."""
        return any(self.mapped.places[name.removeprefix(OWN)].is_private for name in indexed_by(loop))

    def guarded(self, body: Sequence[Work], condition: str) -> list[str]:
        """The lines of statements; lanes for which the condition does not hold only wait with the others."""
        lines = []
        for name, dtype in dict.fromkeys((s.name, s.dtype) for s in body if isinstance(s, Combine)):
            lines.append(f"{self.names(name, dtype)} = np.{dtype}(0)")
        for is_work, group in groupby(body, lambda s: not isinstance(s, Combine | Settle)):
            inner = self.body(list(group))
            lines += [f"if {condition}:", *deeper(inner)] if is_work else inner
        return lines

    def _extent(self, extent: int | Expr) -> str:
        return str(extent) if isinstance(extent, int) else self.expressions.text(extent)

    # -- statements ----------------------------------------------------------------------------------------------

    def body(self, body: Sequence[Work]) -> list[str]:
        """The lines of statements."""
        return [line for s in body for line in self._statement(s)] or ["pass"]

    def _statement(self, s: Work) -> Iterator[str]:
        match s:
            case Let(name, value) | Assign(name, value):
                yield f"{self.names(name, value.dtype)} = {self.expressions.text(value)}"
            case Store(buffer, indices, value):
                line = f"{self.expressions.element(buffer, indices)} = {self.expressions.text(value)}"
                guards = guards_of(self.mapped, buffer.removeprefix(OWN), self.guards)
                yield from [f"if {' and '.join(guards)}:", PAD + line] if guards else [line]
            case For(variable, extent, inner):
                yield f"for {self.names(variable, 'int32')} in range({self._extent(extent)}):"
                yield from deeper(self.body(inner))
            case Nest(_, inner):
                yield from self.body(inner)
            case Combine():
                yield from self._combine(s)
            case Settle():
                yield "barrier()"

    def _combine(self, s: Combine) -> Iterator[str]:
        """Shuffles within a warp, then the warps' results through shared memory, in their order."""
        name = self.names(s.name, s.dtype)
        by = 1
        while by < min(s.team, WARP):
            yield f"{name} = {_SIGNS[s.operator].format(name, f'shuffled({name}, {by})')}"
            by *= 2
        if s.team > WARP:
            area = f"exchange_{s.dtype}"
            yield f"if lane & {WARP - 1} == 0:"
            yield f"{PAD}{area}[lane >> 5] = {name}"
            yield "cuda.syncthreads()"
            yield f"{name} = {area}[0]"
            yield f"for warp in range(1, {s.team // WARP}):"
            yield f"{PAD}{name} = {_SIGNS[s.operator].format(name, f'{area}[warp]')}"
            yield "cuda.syncthreads()"


def _plus(text: str, more: int) -> str:
    return f"{text} + {more}" if more else text
