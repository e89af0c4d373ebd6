"""The choices that a mapping is made of."""

from __future__ import annotations

from dataclasses import dataclass

GRID = 0
"""The group that is the whole grid."""
WARP = 32
LARGEST_BLOCK = 1024

PROCESSORS = 132
"""Of the GPUs of the day; estimates hang on it, answers do not."""
PROCESSOR_SHARED = 220 * 1024
"""Bytes of shared memory of one of them."""
ENOUGH_WARPS = 8
"""By which a processor hides how long memory takes."""
GRID_LANES = PROCESSORS * 256
"""Lanes of a grid, for estimates alone."""


@dataclass(frozen=True)
class GpuChoices:
    """How a program is mapped.

    group: lanes that solve a problem together, a power of 2 up to 1024, or `GRID`. problems: how many problems a block
    solves side by side. threads: of a block, where the group is the grid. private: words of 4 bytes that a lane may
    keep to itself. shared: bytes of shared memory that a block may take.
    """

    group: int
    problems: int = 1
    threads: int = 256
    private: int = 160
    shared: int = 96 * 1024

    def __post_init__(self) -> None:
        powers = [1 << i for i in range(11)]
        if self.group != GRID and self.group not in powers:
            raise ValueError(
                f"a group of {self.group} lanes; a power of 2 up to {LARGEST_BLOCK} is allowed, or the grid"
            )
        if self.problems < 1 or (self.problems > 1 and (self.group == GRID or self.group > WARP)):
            raise ValueError(f"{self.problems} problems in a block of groups of {self.group} lanes")
        if self.block_threads > LARGEST_BLOCK:
            raise ValueError(f"{self.block_threads} threads in a block, at most {LARGEST_BLOCK} are allowed")

    @property
    def block_threads(self) -> int:
        """Threads of a block."""
        return self.threads if self.group == GRID else self.group * self.problems

    @property
    def is_grid(self) -> bool:
        """Whether all lanes of the grid solve each problem together."""
        return self.group == GRID
