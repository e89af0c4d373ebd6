"""The part of the solver to which every operation belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unfoldc.export.listing import Listing

BEGIN = -1


@dataclass(frozen=True)
class Labels:
    """`of[i]` is the iteration of operation i: 0 .. count-1, BEGIN before them, `end` after.

    `marked[k]` are the values that markers name as leaving iteration k ("" where no marker says), called `names`.
    """

    count: int
    of: tuple[int, ...]
    marked: tuple[tuple[str, ...], ...] = ()
    names: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """The label of what runs after the iterations."""
        return self.count

    def body(self, k: int) -> list[int]:
        """Indices of the operations with label k."""
        return [i for i, label in enumerate(self.of) if label == k]

    def in_order_of(self, listing: Listing) -> Labels:
        """No operation reads from a later part: where one would, what it reads moves to the earlier part."""
        of = list(self.of)
        readers = readers_of(listing)
        for i in reversed(range(len(of))):
            of[i] = min([of[i], *(of[j] for j in readers[i])])
        return replace(self, of=tuple(of))


def readers_of(listing: Listing) -> list[list[int]]:
    """For every operation the operations that read it."""
    producers = listing.producers()
    readers: list[list[int]] = [[] for _ in listing.ops]
    for j, op in enumerate(listing.ops):
        for i in {producers[r] for r in op.reads if r in producers}:
            readers[i].append(j)
    return readers


def regions(count: int, borders: Sequence[int]) -> list[list[int]]:
    """The indices 0 .. count-1 cut in front of each border."""
    cuts = [0, *borders, count]
    return [list(range(a, b)) for a, b in zip(cuts, cuts[1:], strict=False)]
