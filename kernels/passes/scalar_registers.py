"""Which scalars are in registers while units are carried out in an order.

A number stays until its last use as long as there are registers; else the one that is needed last makes room (Belady,
1966). One from memory is read again when it is needed, one that was computed is put aside and read back.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from unfoldc.kernels.passes.scalar_units import Units


@dataclass(frozen=True)
class Move:
    """A unit is carried out ("unit"), or a scalar read from memory, put aside in a slot or read back from there.

    Slots are numbered for each element type. Kinds: "unit", "load", "spill", "reload".
    """

    kind: str
    number: int
    slot: int = -1


def in_registers(units: Units, order: Sequence[int], registers: int) -> list[Move]:
    """The units in that order, and what has to be moved so that no more registers are in use."""
    return _Registers(units, order, registers).run()


def cost(moves: Sequence[Move]) -> int:
    """How many numbers are moved."""
    return sum(move.kind != "unit" for move in moves)


@dataclass
class _Registers:
    units: Units
    order: Sequence[int]
    registers: int
    inside: set[int] = field(default_factory=set)
    aside: dict[int, int] = field(default_factory=dict)
    free: dict[str, list[int]] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)

    def run(self) -> list[Move]:
        position = {u: i for i, u in enumerate(self.order)}
        self.coming = {x: sorted((position[u] for u in users), reverse=True) for x, users in self.units.uses.items()}
        for now, u in enumerate(self.order):
            unit = self.units.units[u]
            for x in unit.operands:
                if x not in self.inside:
                    self._make_room(now, unit.operands)
                    self.inside.add(x)
                    self.moves.append(Move("reload", x, self.aside[x]) if x in self.aside else Move("load", x))
            for x in set(unit.operands):
                self.coming[x].pop()
                if not self.coming[x]:
                    self._forget(x)
            if unit.place is None:
                self._make_room(now, ())
                self.inside.add(unit.result)
            self.moves.append(Move("unit", u))
        return self.moves

    def _make_room(self, now: int, keep: Collection[int]) -> None:
        while len(self.inside) >= self.registers and (others := self.inside.difference(keep)):
            cheap = {x: 1 if self.units.is_load(x) or x in self.aside else 2 for x in others}
            gone = max(others, key=lambda x: ((self.coming[x][-1] - now) / cheap[x], x))
            if cheap[gone] == 2:
                self.aside[gone] = self._slot(gone)
                self.moves.append(Move("spill", gone, self.aside[gone]))
            self.inside.discard(gone)

    def _slot(self, number: int) -> int:
        dtype = self._dtype(number)
        if self.free.get(dtype):
            return heapq.heappop(self.free[dtype])
        self.slots[dtype] = self.slots.get(dtype, 0) + 1
        return self.slots[dtype] - 1

    def _forget(self, number: int) -> None:
        self.inside.discard(number)
        if number in self.aside:
            heapq.heappush(self.free.setdefault(self._dtype(number), []), self.aside[number])

    def _dtype(self, number: int) -> str:
        return self.units.graph.scalars[number].shape.dtype
