"""A kernel as it is launched on one GPU, and the arguments of a launch."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unfoldc.runtime.cuda.launch_facts import Form


@dataclass(frozen=True)
class Kernel:
    """A form's kernel on one GPU: `function` is the driver's, `resident` the blocks that run at once on it."""

    form: Form
    name: str
    function: Any
    resident: int
    per_multiprocessor: int

    def at(self, batch: int) -> Kernel:
        """What solves so many problems."""
        return self

    def blocks(self, batch: int) -> int:
        """The blocks of a launch: one for each group of problems, but no more than run at once."""
        if self.form.cooperative:
            return min(self.resident, self.form.blocks or self.resident)
        return min(self.form.units(batch), self.resident)

    def workspace_bytes(self) -> int:
        """What the largest launch needs."""
        form = self.form
        return form.workspace_bytes * (1 if form.cooperative else self.resident)


class Arguments:
    """The arguments of one launch, packed: a word for each, and a table of the words' addresses as the driver wants."""

    __slots__ = ("_memory", "pack", "table")

    def __init__(self, count: int) -> None:
        words = struct.Struct(f"={count}Q")
        self._memory = ctypes.create_string_buffer(16 * count)
        first = ctypes.addressof(self._memory)
        struct.pack_into(f"={count}Q", self._memory, 8 * count, *range(first, first + 8 * count, 8))
        memory = self._memory
        self.pack: Callable[..., None] = lambda values: words.pack_into(memory, 0, *values)
        self.table = first + 8 * count

    def words(self) -> bytes:
        """What the words hold."""
        return self._memory.raw[: len(self._memory) // 2]
