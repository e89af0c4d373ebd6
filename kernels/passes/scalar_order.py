"""An order of the units of a graph, and what is in registers then: what a compiler would have to guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from unfoldc.kernels.passes.scalar_registers import Move, cost, in_registers
from unfoldc.kernels.passes.scalar_units import Unit, Units

_DEARER = 100  # units: so much longer does a number stay that would have to be put aside
# Readers of a number in memory up to which it stays in a register, when orders are looked for.
_FEW = (0, 2, 8, 1 << 30)


@dataclass
class _Past:
    """What has been carried out: the readers `left` of each scalar, when it came (`since`).

    `inside`: those in registers, with the time of their last use; where that is asked for.
    """

    left: dict[int, int]
    since: dict[int, int] = field(default_factory=dict)
    inside: dict[int, int] = field(default_factory=dict)


Choose = Callable[[set[int], _Past], int]


def best_moves(units: Units, registers: int) -> list[Move]:
    """The units in the order, of some, that moves the fewest numbers between memory and so many registers."""
    orders = [as_written(units)]
    orders += [shortest_lives(units, few, recent) for few in _FEW for recent in (False, True)]
    orders.append(fewest_moves(units, registers))
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


def fewest_moves(units: Units, registers: int) -> list[int]:
    """At each step the unit that finds most of its operands in so many registers, and leaves fewest of them there.

    What has not been in use for longest makes room.
    """

    def choose(ready: set[int], past: _Past) -> int:
        def key(u: int) -> tuple[int, int]:
            operands = set(units.units[u].operands)
            there = sum(x in past.inside for x in operands)
            last = sum(past.left[x] == 1 for x in operands)
            return 2 * (len(operands) - there) - 2 * last - there, u

        return min(ready, key=key)

    return _ordered(units, choose, registers)


def _ordered(units: Units, choose: Choose, registers: int = 0) -> list[int]:
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
        if registers:
            _take_in(units, past, unit, registers, len(order))
        order.append(u)
        for v in after[u]:
            waiting[v] -= 1
        ready.update(v for v in after[u] if waiting[v] == 0)
    return order


def _take_in(units: Units, past: _Past, unit: Unit, registers: int, now: int) -> None:
    """Notes what is in registers after a unit."""
    used = {x for x in unit.operands if past.left[x]} | ({unit.result} if unit.place is None else set())
    past.inside = {x: t for x, t in past.inside.items() if past.left[x]} | dict.fromkeys(used, now)
    while len(past.inside) > registers and (others := past.inside.keys() - used):
        del past.inside[min(others, key=lambda x: (past.inside[x] + (0 if units.is_load(x) else _DEARER), x))]


def _is_there(units: Units, u: int, past: _Past) -> bool:
    return all(x in past.since for x in units.units[u].operands)
