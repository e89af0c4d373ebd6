"""What a table of timings is, and how cycles and energy come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unfoldc.targets.description import Target
from unfoldc.targets.instructions import Mix


@dataclass(frozen=True)
class Timing:
    """Cycles by class of instruction, and what the figures are taken from: `basis` in a few words, `source` in full.

    Each of `pipes` is a part of the processor that works beside the others, with the cycles that it spends on an
    instruction of a class (0 where it is not named); a processor that does one thing after the other has one of them.
    `per_word` are the cycles, on the first pipe, of each register that an instruction moves which moves several.
    """

    basis: str
    source: str
    pipes: tuple[Mapping[str, float], ...]
    per_word: Mapping[str, float] = field(default_factory=dict)

    def cycles(self, mix: Mix) -> int:
        """max over pipes p of sum over classes c of mix[c] p[c]: the busiest pipe decides."""
        spent = [sum(n * pipe.get(name, 0.0) for name, n in mix.counts.items()) for pipe in self.pipes]
        spent[0] += sum(n * self.per_word.get(name, 0.0) for name, n in mix.words.items())
        return round(max(spent))


def energy(cycles: int, target: Target) -> float | None:
    """Joules of so many cycles: cycles / clock * volts * amperes; None where one of them is not known."""
    if target.power is None or not target.clock_hz:
        return None
    return cycles / target.clock_hz * target.power.volts * target.power.amperes
