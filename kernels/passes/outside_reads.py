"""Sorts what a run of alike layers reads from outside, by the values that stand at one place over its layers.

The same value each time is an invariant, constants of one type are stacked, one slice per iteration, and each time a
value of the layer before is a state. A value of two layers before has waited one iteration in a state of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfoldc.kernels.program import Program, unused_name

# A value of more iterations ago than this is not followed back.
_LONGEST_WAIT = 4

# The names that stand at one place, one for each layer.
Names = tuple[str, ...]


class CutError(ValueError):
    """The run must end before its `position`-th layer."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = max(position, 1)


@dataclass
class OutsideReads:
    """The classes of a run's outside values, keyed by the sequence of names that stands there.

    `constants` are the values known at compile time, `inverse[k]` maps the values of the run's k-th layer to those of
    the template; `sequences` are all that are read. A sequence may lack its last name, where the last layer does not
    need the value.
    """

    program: Program
    constants: Mapping[str, np.ndarray]
    first: int
    inverse: Sequence[Mapping[str, str]]
    sequences: Iterable[Names]
    states: dict[Names, str] = field(default_factory=dict)
    next_value: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)
    stacked: dict[Names, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sequences = sorted(set(self.sequences), key=lambda s: (-len(s), s))

    def name(self, sequence: Names) -> str:
        """The name under which the body reads this sequence; raises CutError if no single name can stand for it."""
        if len(set(sequence)) == 1:
            return sequence[0]
        constants = [self.constants.get(name) for name in sequence]
        known = [c for c in constants if c is not None]
        return self.stack(sequence, known) if len(known) == len(sequence) else self.carry(sequence, 0)

    def stack(self, sequence: Names, values: Sequence[np.ndarray]) -> str:
        """The name of the stacked constant."""
        for k, value in enumerate(values):
            if value.shape != values[0].shape or value.dtype != values[0].dtype:
                found = f"constant {sequence[k]!r} is {value.dtype}{list(value.shape)}"
                raise CutError(k, f"{found}, its counterpart {values[0].dtype}{list(values[0].shape)}")
        if len(sequence) < len(self.inverse):
            sequence = (*sequence, sequence[-1])  # an iteration that does not need it may have any slice
        if sequence not in self.stacked:
            wanted = f"{sequence[0]} (stacked {self.first}+{len(sequence)})"
            self.stacked[sequence] = unused_name(wanted, {*self.program.types, *self.stacked.values()})
        return self.stacked[sequence]

    def carry(self, sequence: Names, waited: int) -> str:
        """The name of the state that holds the sequence; `waited` counts the states that wait for this one."""
        sequence = next((s for s in self.sequences if s[: len(sequence)] == sequence), sequence)
        if sequence in self.states:
            return self.states[sequence]
        types = [self.program.types[name] for name in sequence]
        for k, t in enumerate(types):
            if t != types[0]:
                found = f"{sequence[k]!r} is {t.dtype}{list(t.shape)}"
                raise CutError(k, f"{found}, its first value {types[0].dtype}{list(types[0].shape)}")
        twins = [self.inverse[k].get(name) for k, name in enumerate(sequence[1:])]
        differs = next((k for k, t in enumerate(twins) if t is None or t != twins[0]), None)
        if twins and differs is None:
            following = str(twins[0])
        elif len(sequence) > 1 and not any(twins[:1]) and waited < _LONGEST_WAIT:
            following = self.carry(sequence[1:], waited + 1)
        else:
            k = 1 + (differs or 0)
            found = repr(sequence[min(k, len(sequence) - 1)])
            raise CutError(k + waited, f"{found}, which it reads, is not what the iterations before it read there")
        wanted = f"state {self.first}.{len(self.states)}"
        state = self.states[sequence] = unused_name(wanted, {*self.program.types, *self.states.values()})
        self.initial[state], self.next_value[state] = sequence[0], following
        return state
