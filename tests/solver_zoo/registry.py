"""All solvers of the zoo by name."""

from __future__ import annotations

import importlib
from itertools import chain

from solver_zoo.base import Entry

_MODULES = (
    "proximal", "constrained", "splitting", "primal_dual", "transport", "control",
    "message_passing", "filtering", "imaging", "learned_optimisers", "graph_networks", "wireless",
)  # fmt: skip


def _entries(module: str) -> tuple[Entry, ...]:
    try:
        entries: tuple[Entry, ...] = importlib.import_module(f"solver_zoo.{module}").ENTRIES
    except ModuleNotFoundError as error:
        if error.name != f"solver_zoo.{module}":
            raise
        return ()
    return entries


_ALL = tuple(chain.from_iterable(map(_entries, _MODULES)))
SOLVERS: dict[str, Entry] = {entry.name: entry for entry in _ALL}
if len(SOLVERS) < len(_ALL):
    raise ValueError("two solvers of the zoo have one name")
