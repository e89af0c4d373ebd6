"""The order in which schedules are tried: one choice after the other from the best so far, then several at once.

A pure search: it proposes batches of choices and is told their scores. With the same scores it proposes the same.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels.schedule_choices import ScheduleChoices, Value

Space = Mapping[str, Sequence[Value]]
Proposals = Generator[list[ScheduleChoices], list[float], None]

_SEED = 1
_IN_VAIN = 400  # proposals drawn in a row that were all made before: there is nothing left
_BATCH = 4
_PROMISING = 0.75  # of the draws are among choices that change something, and values that do not do much harm alone
_BEARABLE = 1.05
_AT_ONCE = (2, 2, 2, 3, 3, 5)  # choices that are changed together


def proposals(default: ScheduleChoices, space: Space, first: Sequence[ScheduleChoices], margin: float) -> Proposals:
    """Yields lists of choices and wants their scores sent, in their order: relative to the default, less is better.

    Nothing is proposed twice, and never the default, whose score is 1. `first` are tried before all others. A score
    must be lower by the share `margin` than the best one to take its place. Ends when nothing new is found.
    """
    search = _Search(default, space, margin)
    yield from search.tried(first)
    while True:
        improved = yield from search.one_by_one()
        if improved:
            continue
        improved = yield from search.several_at_once()
        if not improved:
            return


class _Search:
    def __init__(self, default: ScheduleChoices, space: Space, margin: float) -> None:
        self.space, self.margin = space, margin
        self.best, self.score = default, 1.0
        self.known = {default: 1.0}
        self.effects: dict[str, dict[Value, float]] = {name: {} for name in space}
        self.dice = random.Random(_SEED)

    def tried(self, wanted: Sequence[ScheduleChoices]) -> Generator[list[ScheduleChoices], list[float], bool]:
        """Proposes those that are new; whether one of them is the best now."""
        new = [c for c in dict.fromkeys(wanted) if c not in self.known]
        if not new:
            return False
        scores = yield new
        self.known.update(zip(new, scores, strict=True))
        leader = min(new, key=lambda c: self.known[c])
        if self.known[leader] >= self.score * (1 - self.margin):
            return False
        self.best, self.score = leader, self.known[leader]
        return True

    def one_by_one(self) -> Generator[list[ScheduleChoices], list[float], bool]:
        """Every other value of every choice, from the best so far."""
        improved = False
        for name, values in self.space.items():
            base = self.score
            changed = {v: replace(self.best, **{name: v}) for v in values}  # type: ignore[arg-type]
            found = yield from self.tried(list(changed.values()))
            self.effects[name] = {v: self.known[c] / base for v, c in changed.items()}
            improved = improved or found
        return improved

    def several_at_once(self) -> Generator[list[ScheduleChoices], list[float], bool]:
        """Random changes of the best, or of another good one, until one is better; False where none is new."""
        names = [name for name, values in self.space.items() if len(values) > 1]
        vain = 0
        while names and vain < _IN_VAIN:
            wanted = [self.changed(names) for _ in range(_BATCH)]
            if all(c in self.known for c in wanted):
                vain += len(wanted)
                continue
            vain = 0
            if (yield from self.tried(wanted)):
                return True
        return False

    def changed(self, names: Sequence[str]) -> ScheduleChoices:
        """Some choices drawn anew, from the best or, one time in four, from one of the ten best."""
        start = self.best
        if self.dice.random() < 0.25:
            start = self.dice.choice(sorted(self.known, key=lambda c: self.known[c])[:10])
        if self.dice.random() < _PROMISING:
            moving = [n for n in names if any(effect != 1 for effect in self.effects[n].values())]
            space = {n: [v for v, effect in self.effects[n].items() if effect < _BEARABLE] for n in moving}
            names, values = moving or names, space
        else:
            values = {n: list(self.space[n]) for n in names}
        picked = self.dice.sample(names, min(len(names), self.dice.choice(_AT_ONCE)))
        drawn = {name: self.dice.choice(values.get(name) or self.space[name]) for name in picked}
        return replace(start, **drawn)  # type: ignore[arg-type]
