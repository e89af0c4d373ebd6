"""The classes of instructions that timing tells apart, and how often each was executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# A pair of loads is a "load multiple" of two words; one that also returns is a "call" that moves words.
CLASSES = (
    "alu", "multiply", "divide",
    "load", "store", "load multiple", "store multiple",
    "branch taken", "branch not taken", "call",
    "float add", "float multiply", "float multiply-add", "float divide", "float root",
    "float load", "float store", "float move",
    "vector", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What an instruction does: its class, registers that it moves to or from memory at once, and may it not branch.

    A `conditional` instruction is of its class when it branches, and a "branch not taken" when it does not.
    """

    name: str
    words: int = 0
    conditional: bool = False


@dataclass(frozen=True)
class Mix:
    """Instructions executed, by class, and the registers that those of a class moved which move several."""

    counts: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, int] = field(default_factory=dict)

    @property
    def instructions(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @staticmethod
    def of(times: Mapping[Kind, int]) -> Mix:
        """Kinds and how often each was executed."""
        counts: dict[str, int] = {}
        words: dict[str, int] = {}
        for kind, n in ((k, n) for k, n in times.items() if n):
            counts[kind.name] = counts.get(kind.name, 0) + n
            if kind.words:
                words[kind.name] = words.get(kind.name, 0) + n * kind.words
        return Mix({c: counts[c] for c in CLASSES if c in counts}, {c: words[c] for c in CLASSES if c in words})
