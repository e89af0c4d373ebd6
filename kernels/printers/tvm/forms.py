"""What the printers of TIR and of the C around it share: printed functions, how they are called, forms to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IN_ORDER = "unfoldc.in_order"
"""Attribute of a function whose sums were split so that additions need not wait for each other: they stay split."""


@dataclass(frozen=True)
class Argument:
    """A pointer: to the buffer `name`, or to scratch, `start` elements into the member `member` of the state."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    written: bool
    member: str = ""
    start: int = 0


@dataclass(frozen=True)
class Function:
    """A printed function; `numbers` follow the pointers: that of the iteration, and those of the loops it is called in.

    `asked` are the functions that it takes for granted though no library has them.
    """

    name: str
    arguments: tuple[Argument, ...]
    numbers: tuple[str, ...]
    text: str
    asked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Loop:
    """Functions that are called `extent` times, with the number of the run in `var`."""

    var: str
    extent: int
    calls: tuple[Function | Loop, ...]


Calls = Sequence[Function | Loop]
Functions = Sequence[Calls]
"""Those of `begin`, of each step and of `end`: none for one with nothing to do, several for one in parts."""


def every(calls: Calls) -> list[Function]:
    """The functions that are called."""
    return [f for c in calls for f in ([c] if isinstance(c, Function) else every(c.calls))]


@dataclass(frozen=True)
class Form:
    """How functions are printed; `estimates`: the processor has one of 1 / sqrt(x) for vectors of 512 bits.

    `lanes` problems side by side in the buffers `varying`, all of type `dtype` (1: one problem). `metal` prefixes the
    functions that stand in for a C library ("": there is one).
    """

    metal: str = ""
    estimates: bool = False
    lanes: int = 1
    varying: frozenset[str] = frozenset()
    dtype: str = ""
