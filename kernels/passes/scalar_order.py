"""An order of the units of a graph, and what is in registers then: what a compiler would have to guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from unfoldc.kernels.passes.scalar_registers import Move, cost, in_registers
from unfoldc.kernels.passes.scalar_units import Units

_FEW = (
    0,
    2,
    8,
    1 << 30,
)  # readers of a number in memory up to which it stays in a register when an order is looked for


@dataclass
class _Past:
    """What has been carried out: the readers `left` of each scalar, and when it was last in use (`since`)."""

    left: dict[int, int]
    since: dict[int, int] = field(default_factory=dict)


Choose = Callable[[set[int], _Past], int]


def best_moves(units: Units, registers: int) -> list[Move]:
    """The units in the order, of some, that moves the fewest numbers between memory and so many registers."""
    orders = [as_written(units)]
    orders += [shortest_lives(units, few, recent) for few in _FEW for recent in (False, True)]
    return min((in_registers(units, order, registers) for order in orders), key=cost)


def as_written(units: Units) -> list[int]:
    """The order of the program; what is stored is stored as soon as that may be."""
    return _ordered(units, lambda ready, past: min(ready))


def shortest_lives(units: Units, few: int, recent: bool) -> list[int]:
    """At each step the unit after which the fewest numbers wait for a reader.

    Numbers in memory with more than `few` readers do not count. Among equals comes the one whose operands came last
    (`recent`), then the one that the program has first.
    """

    def more_waiting(u: int, past: _Past) -> int:
        unit = units.units[u]
        found = 0 if unit.place is not None else 1
        for x in set(unit.operands):
            if units.is_load(x) and len(units.uses[x]) > few:
                continue
            if past.left[x] == 1:
                found -= x in past.since
            else:
                found += x not in past.since
        return found

    def choose(ready: set[int], past: _Past) -> int:
        def key(u: int) -> tuple[int, int, int]:
            last = max((past.since.get(x, -1) for x in units.units[u].operands), default=-1)
            return more_waiting(u, past), -last if recent else 0, u

        return min(ready, key=key)

    return _ordered(units, choose)


def _ordered(units: Units, choose: Choose) -> list[int]:
    """All units: stores of what is in a register at once, others as chosen among those that may be carried out."""
    past = _Past({x: len(users) for x, users in units.uses.items()})
    waiting = [len(earlier) for earlier in units.before]
    after: list[list[int]] = [[] for _ in units.units]
    for u, before in enumerate(units.before):
        for earlier in before:
            after[earlier].append(u)
    ready = {u for u, n in enumerate(waiting) if n == 0}
    order: list[int] = []
    while ready:
        stores = [u for u in ready if units.units[u].place is not None and _is_there(units, u, past)]
        u = min(stores) if stores else choose(ready, past)
        ready.discard(u)
        unit = units.units[u]
        for x in set(unit.operands):
            past.left[x] -= 1
            past.since.setdefault(x, len(order))
        if unit.place is None:
            past.since[unit.result] = len(order)
        order.append(u)
        for v in after[u]:
            waiting[v] -= 1
        ready.update(v for v in after[u] if waiting[v] == 0)
    return order


def _is_there(units: Units, u: int, past: _Past) -> bool:
    return all(x in past.since for x in units.units[u].operands)
