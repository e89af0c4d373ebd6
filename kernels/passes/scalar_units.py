"""What of a graph of scalars is carried out at once: operations with those that become part of them, and stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from unfoldc.kernels import build
from unfoldc.kernels.loops import Binary, Expr, Load, Local
from unfoldc.kernels.passes.scalar_graph import Place, ScalarGraph

_FUSED = {"add": "mul", "sub": "mul", "min": "max", "max": "min"}
"""Operation -> one that, read by nothing else, becomes part of it: one instruction, or some that belong together."""


@dataclass(frozen=True)
class Unit:
    """Operation `result` on the scalars `operands`, or the store of `result` at `place`."""

    result: int
    operands: tuple[int, ...]
    place: Place | None = None


@dataclass
class Units:
    """The units of a graph in its order, which must come `before` which, and which read each scalar (`uses`).

    `fused` are those that become part of others, `copied` those that are read from memory once, before that is written
    to: what a state takes over from another one.
    """

    graph: ScalarGraph
    units: list[Unit] = field(default_factory=list)
    before: list[set[int]] = field(default_factory=list)
    uses: dict[int, list[int]] = field(default_factory=dict)
    fused: set[int] = field(default_factory=set)
    copied: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        wanted = self.graph.wanted()
        self._fuse(wanted)
        self.copied = {n for n in self.graph.stored.values() if self._place(n) in self.graph.stored}
        maker: dict[int, int] = {}
        for number in wanted:
            leaf = self.graph.scalars[number].is_leaf and number not in self.copied
            if not leaf and number not in self.fused:
                maker[number] = len(self.units)
                self._append(Unit(number, () if number in self.copied else self._operands(number)), maker)
        stores = range(len(self.units), len(self.units) + len(self.graph.stored))
        for place, number in self.graph.stored.items():
            self._append(Unit(number, () if self._is_literal(number) else (number,), place), maker)
        readers: dict[Place | None, set[int]] = {}
        for number, users in self.uses.items():
            own = [maker[number]] if number in self.copied else users
            readers.setdefault(self._place(number), set()).update(own)
        for store, place in zip(stores, self.graph.stored, strict=True):
            self.before[store] |= readers.get(place, set()) - {store}

    @property
    def operations(self) -> int:
        """How many units compute."""
        return sum(unit.place is None for unit in self.units)

    @property
    def loads(self) -> int:
        """How many scalars are read from memory."""
        return sum(map(self.is_load, self.uses))

    def is_load(self, number: int) -> bool:
        """Whether a scalar can be read from memory as long as it is needed."""
        return isinstance(self.graph.scalars[number].shape, Load) and number not in self.copied

    def expression(self, number: int, names: Mapping[int, Expr]) -> Expr:
        """An operation with what is part of it; `names` are the scalars that hold its operands."""
        scalar = self.graph.scalars[number]
        if scalar.is_leaf:
            return names.get(number, scalar.shape)
        parts = [self.expression(x, names) if x in self.fused or x not in names else names[x] for x in scalar.operands]
        return build.map_expr(scalar.shape, lambda e: parts[int(e.name)] if isinstance(e, Local) else None)

    def _append(self, unit: Unit, maker: Mapping[int, int]) -> None:
        for x in dict.fromkeys(unit.operands):
            self.uses.setdefault(x, []).append(len(self.units))
        self.units.append(unit)
        self.before.append({maker[x] for x in unit.operands if x in maker})

    def _fuse(self, wanted: Iterable[int]) -> None:
        readers: dict[int, list[int]] = {number: [-1] for number in self.graph.stored.values()}
        for number in wanted:
            for x in self.graph.scalars[number].operands:
                readers.setdefault(x, []).append(number)
        for number in wanted:
            scalar, users = self.graph.scalars[number], readers[number]
            if not scalar.is_leaf and len(users) == 1 and users[0] >= 0:
                shape, user = scalar.shape, self.graph.scalars[users[0]].shape
                if shape.dtype == "bool" or _within(shape, user):
                    self.fused.add(number)

    def _operands(self, number: int) -> tuple[int, ...]:
        """What the unit of an operation reads from registers."""
        found: list[int] = []
        for x in self.graph.scalars[number].operands:
            if x in self.fused:
                found.extend(self._operands(x))
            elif not self._is_literal(x):
                found.append(x)
        return tuple(found)

    def _is_literal(self, number: int) -> bool:
        return self.graph.scalars[number].is_leaf and self._place(number) is None

    def _place(self, number: int) -> Place | None:
        """Where a scalar is read from."""
        shape = self.graph.scalars[number].shape
        return (shape.buffer, shape.indices) if isinstance(shape, Load) else None


def _within(e: Expr, user: Expr) -> bool:
    return isinstance(e, Binary) and isinstance(user, Binary) and _FUSED.get(user.operator) == e.operator
