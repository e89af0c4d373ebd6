"""What all approximations have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError

Answer = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Convergence:
    """A condition for convergence, checked on data: `number` (the worst over the problems) must stay below `limit`.

    `broken` is the share of the problems that break it, 0 to 1; `name` says in words what the number is.
    """

    name: str
    number: float
    limit: float
    broken: float

    @property
    def holds(self) -> bool:
        """Whether it holds for every problem."""
        return self.broken == 0.0


class Approximation(nn.Module):
    """A cheap replacement of an exact operation at one call site of one iteration.

    A subclass names the `operations` that it may replace, passes its options to this constructor (plain data, from
    which an equal one can be made again), and defines `forward`. Matrices come as (..., n, n), right-hand sides as
    (..., n, m), other arguments as the solver passes them. Its parameters are learned with those of the solver; every
    iteration has its own.

    The state that a warm start carries from iteration to iteration is the previous answer at the same site. It is
    passed, never stored here.
    """

    operations: ClassVar[tuple[str, ...]] = ()
    uses_previous: bool = False
    """Whether `forward` reads the previous answer: a warm start."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        if "warm_start" in options:
            found = options["warm_start"]
            demand(f"{type(self).__name__}(warm_start=...)", "True or False", isinstance(found, bool), found)

    def prepare(self, *arguments: Any) -> None:
        """Make the parameters whose sizes depend on the arguments; called once, with those of an example."""

    def start(self, *arguments: Any) -> Answer:
        """The answer that the first iteration starts from, computed in `begin`."""
        raise InputError(
            type(self).__name__,
            "the first iteration has no previous answer",
            "iterations after the first",
            "Leave the first iteration exact: approximate(..., iterations=range(1, K)).",
        )

    def forward(self, previous: Answer | None, *arguments: Any) -> Answer:
        """The approximate answer; `previous` is the last one at this site, None where there is none."""
        raise NotImplementedError(type(self).__name__)

    def multiply_adds(self, *arguments: Any) -> int:
        """Multiply-adds of one problem at a later iteration, where there is a previous answer."""
        raise NotImplementedError(type(self).__name__)

    def start_multiply_adds(self, *arguments: Any) -> int:
        """Multiply-adds of `start`, of one problem."""
        return 0

    def convergence(self, *arguments: Any) -> Convergence | None:
        """The condition for convergence on these arguments; None where there is none to check."""
        return None

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({inside})"


def below(name: str, numbers: Tensor, limit: float = 1.0) -> Convergence:
    """The condition `number < limit` over problems, (...,); NaN breaks it."""
    numbers = numbers.reshape(-1)
    broken = ~(numbers < limit)
    worst = float(numbers.max()) if bool(torch.isfinite(numbers).all()) else math.inf
    return Convergence(name, worst, limit, float(broken.double().mean()))


def demand(name: str, allowed: str, holds: bool, found: Any) -> None:
    """Raise InputError where an option does not fit."""
    if not holds:
        raise InputError(name, repr(found), allowed, "Correct the option.")
