"""Puts barriers between parts of which one writes what another one touches from another lane.

A barrier is put as late as possible, right before the part that must wait, and settles everything before it. A loop is
gone through with what its own end leaves behind, for its next run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from unfoldc.kernels.gpu.owners import Access
from unfoldc.kernels.gpu.parts import All, Barrier, InStep, One, Part, Parts, Share

Touched = frozenset[Access]
"""What was touched since the last barrier in memory that lanes share."""

Find = Callable[[Share | All | One], Sequence[Access]]


def with_barriers(parts: Sequence[Part], before: Touched, find: Find) -> tuple[Parts, Touched]:
    """The parts with barriers, and what is touched after the last of them.

    `find` gives the accesses of a part to memory that several lanes can reach.
    """
    result: list[Part] = []
    pending = before
    for part in parts:
        if isinstance(part, InStep):
            inner, pending = loop_with_barriers(part.body, pending, find)
            result.append(replace(part, body=inner))
            continue
        if isinstance(part, Share | All | One):
            own = frozenset(find(part))
            if any(_conflict(a, b) for a in own for b in pending):
                result.append(Barrier())
                pending = frozenset()
            pending |= own
        elif isinstance(part, Barrier):
            pending = frozenset()
        result.append(part)
    return tuple(result), pending


def loop_with_barriers(body: Sequence[Part], before: Touched, find: Find) -> tuple[Parts, Touched]:
    """The body of a loop that may run any number of times, none included."""
    known = before
    while True:
        inner, after = with_barriers(body, known, find)
        if after <= known:
            return inner, known
        known |= after


def _conflict(a: Access, b: Access) -> bool:
    """Whether two lanes may touch the same element, one of them to write it."""
    return a.buffer == b.buffer and (a.store or b.store) and not a.owners & b.owners
