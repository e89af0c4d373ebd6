"""The values that a solver declares, and the view through which its formulas and steps read them.

A solver's values form a graph: inputs of each call, parts of the objective, hyperparameters with a classical value,
and values derived from the others by a formula. `learn` cuts this graph at a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.call_sites import CallSites, Memory
from unfoldc.unfold_train.mathematics import Mathematics

Formula = Callable[["View"], Tensor]
Lookup = Callable[[str, int], Tensor | None]


class Value:
    """One declared value of a solver.

    `dims` names its axes for one problem, such as ("m", "n"); equal names must have equal sizes, and an empty tuple
    leaves the shape open. `positive` keeps a learned value above zero. `integer` marks indices, never learned.
    """

    def __init__(
        self,
        dims: tuple[str, ...] = (),
        formula: Formula | None = None,
        positive: bool = False,
        integer: bool = False,
    ) -> None:
        self.dims = dims
        self.formula = formula
        self.positive = positive
        self.integer = integer


class Input(Value):
    """A value given with each call, one per problem: `Input("m")` is called with shape (batch, m).

    Written in place of a number or array, `Ista(A=Input(), rho=0.1)` turns another declared value into an input.
    """

    def __init__(self, *dims: str) -> None:
        super().__init__(dims)


class Objective(Value):
    """A part of the objective, given when the solver is made: `Objective("m", "n")`, `Objective(positive=True)`."""

    def __init__(self, *dims: str, positive: bool = False) -> None:
        super().__init__(dims, None, positive)


class Hyper(Value):
    """A hyperparameter of the method, such as a step size; the formula gives its classical value."""

    def __init__(self, formula: Formula, *dims: str, positive: bool = False) -> None:
        super().__init__(dims, formula, positive)


class Derived(Value):
    """A value that follows from others by a formula, unless it is given or learned."""

    def __init__(self, formula: Formula, *dims: str, positive: bool = False, integer: bool = False) -> None:
        super().__init__(dims, formula, positive, integer)


class Declares(Protocol):
    """What a view needs of a solver."""

    @property
    def values(self) -> Mapping[str, Value]:
        """The declared values by name."""

    @property
    def dtype(self) -> torch.dtype:
        """The element type."""


class View(Mathematics):
    """What `init`, `step`, `output` and the formulas see at iteration k: `v.mu`, `v.A`, `v.y`, `v.solve(G, b)`.

    Derived values are computed when first read and kept for this view only, or, where they are the same in all
    iterations (`shared` names them), in the memory of the call; no state outlives a call.
    """

    def __init__(
        self,
        solver: Declares,
        lookup: Lookup,
        k: int,
        sites: CallSites | None = None,
        shared: frozenset[str] = frozenset(),
    ) -> None:
        self._owner = type(solver).__name__
        self._declared = solver.values
        self._dtype = solver.dtype
        self._lookup = lookup
        self._iteration = k
        self._sites = CallSites({}, Memory(), lambda tensor: False) if sites is None else sites
        self._shared = shared
        self._kept: dict[str, Tensor] = {}
        self._open: list[str] = []

    @property
    def k(self) -> int:
        """The iteration, counted from 0."""
        return self._iteration

    def number(self, value: float) -> Tensor:
        """A plain number as a scalar of the solver's type."""
        return torch.tensor(value, dtype=self._dtype)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._kept:
            found = self._lookup(name, self._iteration)
            self._kept[name] = self._find(name) if found is None else found
        return self._kept[name]

    def _find(self, name: str) -> Tensor:
        if name not in self._shared:
            return self._derive(name)
        known = self._sites.memory.shared
        if name not in known:
            known[name] = self._derive(name)
        return known[name]

    def _derive(self, name: str) -> Tensor:
        value = self._declared.get(name)
        if value is None:
            raise InputError(f"{self._owner}.{name}", "unknown value", ", ".join(self._declared), "Correct the name.")
        if name in self._open:
            chain = " -> ".join([*self._open, name])
            raise InputError(
                f"{self._owner}.{name}", f"depends on itself: {chain}", "formulas without circles", f"Give {name}."
            )
        if value.formula is None:
            raise InputError(
                f"{self._owner}.{name}", "has no value", "a number or an array", f"Write {self._owner}({name}=...)."
            )
        self._open.append(name)
        try:
            with self._sites.inside(name):
                return value.formula(self)
        finally:
            self._open.pop()


class Recorder(View):
    """A view that notes which formula reads which values; the entry "" holds what the solver's own methods read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._reads: dict[str, set[str]] = {}

    def reads(self) -> dict[str, set[str]]:
        """For each name, the names that its formula read; "k" stands for the iteration."""
        return self._reads

    @property
    def k(self) -> int:
        """The iteration, counted from 0; reading it is noted."""
        self._note("k")
        return self._iteration

    def __getattr__(self, name: str) -> Tensor:
        if not name.startswith("_"):
            self._note(name)
        return super().__getattr__(name)

    def _note(self, name: str) -> None:
        self._reads.setdefault(self._open[-1] if self._open else "", set()).add(name)
