"""What the lanes of a group do, as a tree of parts: the level between loop nests and the text of a kernel.

All lanes of a group walk through the parts together. What stands in a `Share` is dealt out to them, what stands in an
`All` each of them does alike, what stands in a `One` lane 0 does alone. Between two barriers lanes may run in any order
and at any distance from each other; `barriers.py` puts in those that are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.accesses import Access, accesses
from unfoldc.kernels.loops import Expr, For, Stmt, Var

LANE = "number in the team"
"""The variable that holds the number of a lane in its team: 0 .. team - 1, in statements that a team shares.

It is no name that a variable of a program may have.
"""

NEUTRAL = {"add": -0.0, "max": -float("inf"), "min": float("inf")}
"""What changes nothing, for the operators by which the scalars of a team are combined."""


@dataclass(frozen=True)
class Combine:
    """The scalar `name` becomes, in every lane of a team of `team` lanes, the combination of all of theirs.

    The order is the same in all lanes, so their results are equal to the last bit. All lanes of the group take part.
    """

    name: str
    operator: str
    dtype: str
    team: int


@dataclass(frozen=True)
class Settle:
    """The lanes of a warp wait for each other: what a team read before, its first lane may now overwrite."""


Work = Stmt | Combine | Settle


@dataclass(frozen=True)
class Share:
    """The runs of nested loops, dealt out: run e of them all (the last variable moves fastest) to team e mod teams.

    A team is `team` neighbouring lanes; all of them run the body, with their number in `LANE`. Where a run ends in a
    store to memory that lanes share, the first lane of the team makes it. A single extent may be an expression.
    """

    variables: tuple[str, ...]
    extents: tuple[int | Expr, ...]
    body: tuple[Work, ...]
    team: int = 1

    @property
    def loops(self) -> list[tuple[str, int | Expr]]:
        """The variables, each with its extent."""
        return list(zip(self.variables, self.extents, strict=True))

    @property
    def runs(self) -> int | Expr:
        """How many runs there are in all."""
        total = 1
        for extent in self.extents:
            if not isinstance(extent, int):
                return extent
            total *= extent
        return total

    @property
    def position(self) -> Expr:
        """The number of a run."""
        result: Expr = build.ZERO
        for name, extent in self.loops:
            scale = build.index(extent) if isinstance(extent, int) else build.index(1)
            result = build.add(build.mul(result, scale), Var(name))
        return result


@dataclass(frozen=True)
class All:
    """Statements that every lane of the group carries out, with the same results."""

    body: tuple[Work, ...]


@dataclass(frozen=True)
class One:
    """Statements that one lane carries out alone; no scalar that they set is read elsewhere.

    It is lane 0, or in a grid a lane for each `chain`: chains have nothing to do with each other between barriers.
    """

    body: tuple[Stmt, ...]
    chain: int = 0


@dataclass(frozen=True)
class InStep:
    """A loop that all lanes run together."""

    variable: str
    extent: int | Expr
    body: tuple[Part, ...]


@dataclass(frozen=True)
class Barrier:
    """No lane of the group goes on before all have come here and their stores can be seen."""


@dataclass(frozen=True)
class Remark:
    """The ONNX nodes that the following parts come from, for a comment."""

    origins: tuple[str, ...]


Part = Share | All | One | InStep | Barrier | Remark
Parts = tuple[Part, ...]


def leaves(parts: Sequence[Part]) -> list[Share | All | One]:
    """The parts that compute, in order."""
    found: list[Share | All | One] = []
    for part in parts:
        if isinstance(part, InStep):
            found += leaves(part.body)
        elif isinstance(part, Share | All | One):
            found.append(part)
    return found


def statements(body: Sequence[Work]) -> list[Stmt]:
    """All statements of the loop level, nested ones included."""
    return build.statements(loop_level(body))


def loop_level(body: Sequence[Work]) -> tuple[Stmt, ...]:
    """The statements without what teams do together."""
    return tuple(s for s in body if not isinstance(s, Combine | Settle))


def expressions(s: Work) -> list[Expr]:
    """The expressions of a statement."""
    return [] if isinstance(s, Combine | Settle) else build.expressions(s)


def touched(body: Sequence[Work]) -> list[Access]:
    """The elements of buffers that statements read and write."""
    return accesses(loop_level(body))


def reads(body: Sequence[Work]) -> set[str]:
    """The buffers that statements read."""
    return {a.buffer for a in touched(body) if not a.stored}


def writes(body: Sequence[Work]) -> set[str]:
    """The buffers that statements write."""
    return {a.buffer for a in touched(body) if a.stored}


def indexed_by(loop: For) -> set[str]:
    """The buffers of which the loop's variable says which element is meant."""
    own = Var(loop.var)
    return {a.buffer for a in touched(loop.body) if any(own in build.walk(i) for i in a.indices)}


def nested_loops(shape: Sequence[tuple[str, int | Expr]], body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements in loops of these variables and extents, the first outermost."""
    for variable, extent in reversed(shape):
        body = (For(variable, extent, body),)
    return body
