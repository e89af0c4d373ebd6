"""How often which instruction ran, from the blocks of code that an emulator goes through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from unfoldc.targets.instructions import Mix, decode
from unfoldc.targets.instructions.classes import Kind
from unfoldc.targets.processors import Processor

# A block of instructions that run one after the other: address and bytes.
Block = tuple[int, int]


class Trace:
    """Counts the blocks entered; `read(address, size)` gives their code.

    `instructions` grows with every block, by all of its instructions: one whose condition fails spends its slot, too.
    What a block's last instruction does, if it may branch, shows in where the next block starts.
    """

    def __init__(self, processor: Processor, read: Callable[[int, int], bytes]) -> None:
        self.instructions = 0
        self._processor = processor
        self._read = read
        self._lengths: dict[Block, int] = {}
        self._kinds: dict[Block, tuple[Kind, ...]] = {}
        self._entered: Counter[tuple[int, int, int]] = Counter()
        self._end = 0

    def enter(self, address: int, size: int) -> None:
        """The emulator starts on a block."""
        block = address, size
        length = self._lengths.get(block)
        if length is None:
            length = self._lengths[block] = self._processor.instructions(self._read(address, size))
        self.instructions += length
        self._entered[self._end, address, size] += 1
        self._end = address + size

    def take(self) -> Mix:
        """What ran since the last call, or since the start."""
        blocks: Counter[Block] = Counter()
        passed: Counter[int] = Counter()  # by the end of a block: how often the code behind it came next
        for (end, address, size), times in self._entered.items():
            blocks[address, size] += times
            passed[end] += times if end == address else 0
        kinds: Counter[Kind] = Counter()
        branches: dict[int, Kind] = {}
        for (address, size), times in blocks.items():
            for kind in self._kinds_of((address, size)):
                kinds[kind] += times
            if kind.conditional:
                branches[address + size] = kind
        for end, kind in branches.items():
            kinds[kind] -= passed[end]
            kinds[Kind("branch not taken")] += passed[end]
        self._entered.clear()
        self._end = 0
        return Mix.of(kinds)

    def _kinds_of(self, block: Block) -> tuple[Kind, ...]:
        if block not in self._kinds:
            address, size = block
            found = decode(self._processor, self._read(address, size), address)
            self._kinds[block] = tuple(i.kind for i in found)
        return self._kinds[block]
