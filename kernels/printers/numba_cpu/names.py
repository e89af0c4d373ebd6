"""Identifiers of a printed module: those of the compiler, moved aside where Python, the prelude or another name has them."""

from __future__ import annotations

import builtins
import keyword
import re

from unfoldc.kernels.printers.numba_cpu.prelude import PRELUDE

OWN = (
    "workspace",
    "addresses",
    "batch",
    "iterations",
    "ticks",
    "problem",
    "last",
    "begin",
    "end",
    "solve",
    "read_counter",
)
RESERVED = (
    frozenset(keyword.kwlist) | frozenset(dir(builtins)) | frozenset(OWN) | frozenset(re.findall(r"\w+", PRELUDE))
)


class Names:
    """One identifier per name and role; the role is `buffer` or a scalar's type, since Numba gives a variable one type."""

    def __init__(self) -> None:
        self._chosen: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def __call__(self, name: str, role: str) -> str:
        """The identifier for `name` in this role, the same at each call."""
        if (name, role) not in self._chosen:
            chosen = f"{name}_" if name.startswith("weights_") else name
            while chosen in self._taken or chosen in RESERVED:
                chosen += "_"
            self._taken.add(chosen)
            self._chosen[name, role] = chosen
        return self._chosen[name, role]
