"""All solvers of the zoo by name."""

from __future__ import annotations

from itertools import chain

from solver_zoo import (
    constrained,
    control,
    filtering,
    graph_networks,
    imaging,
    learned_optimisers,
    message_passing,
    primal_dual,
    proximal,
    splitting,
    transport,
    wireless,
)
from solver_zoo.base import Entry

_MODULES = (
    proximal, constrained, splitting, primal_dual, transport, control,
    message_passing, filtering, imaging, learned_optimisers, graph_networks, wireless,
)  # fmt: skip
_ALL: tuple[Entry, ...] = tuple(chain.from_iterable(module.ENTRIES for module in _MODULES))
SOLVERS: dict[str, Entry] = {entry.name: entry for entry in _ALL}
if len(SOLVERS) < len(_ALL):
    raise ValueError("two solvers of the zoo have one name")
