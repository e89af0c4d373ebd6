"""What a project's README says of the solver on its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figures:
    """Bytes of flash, RAM and stack (None: unknown), and instructions of each part of one solve.

    `iterate` is empty where nothing was counted; `why` then says the reason. `versions` are those of the tools with
    which all this was built and counted.
    """

    flash_bytes: int | None
    ram_bytes: int | None
    stack_bound_bytes: int | None
    begin: int = 0
    iterate: tuple[int, ...] = ()
    end: int = 0
    why: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def per_iteration(self) -> str:
        """Instructions of an iteration: one number, or from the least to the most."""
        low, high = min(self.iterate), max(self.iterate)
        return f"{low}" if low == high else f"{low} to {high}"
