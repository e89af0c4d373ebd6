"""Among whom shared runs are dealt out, and what lets a lane store, as every printer of kernels needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.gpu.mapping import Mapped

PAD = "    "


@dataclass(frozen=True)
class Dealer:
    """The name of a lane's number, and how many lanes there are (0: `lanes`); `quotient` is how a division is printed.

    The lanes of a team have their number in `team_<size>`.
    """

    lane: str
    count: int
    is_grid: bool = False
    quotient: str = "{0} // {1}"

    def team(self, size: int) -> str:
        """The number of a lane's team."""
        return self.lane if size == 1 else f"team_{size}"

    def teams(self, size: int) -> str:
        """The number of teams, as text."""
        if self.is_grid:
            return self.quotient.format("lanes", size) if size > 1 else "lanes"
        return str(self.count // size)


def guards_of(mapped: Mapped, buffer: str, guards: Sequence[str]) -> list[str]:
    """What must hold for a store: of a team the first lane makes it, as `guards` say, if others can see it."""
    place = mapped.places[buffer]
    found = [] if place.is_private else list(guards)
    if mapped.buffers[buffer].space == "output" and place.kind == "given" and mapped.choices.problems > 1:
        found.append("valid")
    return found


def deeper(lines: Sequence[str]) -> list[str]:
    """The lines one level further in."""
    return [PAD + line for line in lines]
