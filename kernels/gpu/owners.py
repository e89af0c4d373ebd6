"""Which lane touches which elements of a buffer.

An access in shared runs is *owned* where the number of the run is the place along some axes of the buffer: then only
one lane, or one team, ever touches that element in this way. Two parts whose accesses are owned alike need no barrier
between them, and a buffer all of whose accesses are owned alike can be kept by the lanes to themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from unfoldc.kernels.gpu.parts import All, One, Share, touched
from unfoldc.kernels.index_bounds import Linear, linear
from unfoldc.kernels.loops import Buffer, Expr


@dataclass(frozen=True)
class Owner:
    """The element at places p along `axes` belongs to team `flat(p) mod teams` of `team` lanes.

    With no axes it is one lane, of `One` parts: `team` is 1 more than the number of their chain.
    """

    axes: tuple[int, ...]
    team: int = 1

    @property
    def is_lane(self) -> bool:
        """Whether it is a single lane: of a team, one lane writes what the others read."""
        return self.team == 1 or not self.axes


@dataclass(frozen=True)
class Access:
    """A load or store in a part, with the owners by whom it may be explained."""

    buffer: str
    indices: tuple[Expr, ...]
    store: bool
    owners: frozenset[Owner]


def accesses(part: Share | All | One, buffers: Mapping[str, Buffer]) -> list[Access]:
    """The loads and stores of a part."""
    found: list[Access] = []
    for a in touched(part.body):
        if isinstance(part, Share):
            owners = frozenset(_owners(part, a.indices, buffers[a.buffer].shape))
        else:
            owners = frozenset([Owner((), part.chain + 1)]) if isinstance(part, One) else frozenset()
        found.append(Access(a.buffer, a.indices, a.stored, owners))
    return found


def _owners(part: Share, indices: Sequence[Expr], shape: Sequence[int]) -> Iterable[Owner]:
    """Sets of axes along which the place is the number of the run."""
    position = linear(part.position)
    axes = [a for a, n in enumerate(shape) if n > 1]
    for count in range(1, len(axes) + 1):
        for chosen in combinations(axes, count):
            place = Linear()
            step = 1
            for a in reversed(chosen):
                place.add(indices[a], step)
                step *= shape[a]
            if (place.constant, place.moving) == (position.constant, position.moving):
                yield Owner(chosen, part.team)
