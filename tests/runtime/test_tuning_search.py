"""The order in which schedules are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unfoldc.kernels.schedule_choices import ScheduleChoices, choices_for, default_for
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.runtime.tuning_search import proposals

SPEC = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=32)
DEFAULT, SPACE = default_for(SPEC, "c"), choices_for(SPEC, "c")
FEW = {name: SPACE[name] for name in ("rows", "columns", "dots", "packed")}


def searched(
    score: Callable[[ScheduleChoices], float],
    most: int = 2000,
    first: list[ScheduleChoices] | None = None,
    space: dict[str, tuple[bool | int | str, ...]] | None = None,
    margin: float = 0.0,
) -> list[ScheduleChoices]:
    """What is tried, in order, and whether the search ended by itself."""
    tried: list[ScheduleChoices] = []
    search = proposals(DEFAULT, space or FEW, first or [], margin)
    try:
        wanted = next(search)
        while len(tried) < most:
            tried += wanted
            wanted = search.send([score(c) for c in wanted])
    except StopIteration:
        pass
    return tried


def bowl(c: ScheduleChoices) -> float:
    return 0.5 + (abs(c.rows - 3) + abs(c.columns - 8) + abs(c.dots - 20)) / 100 + (0.1 if c.packed else 0)


def test_nothing_twice_and_never_the_default() -> None:
    tried = searched(bowl, space=SPACE, most=500)
    assert len(set(tried)) == len(tried) >= 500 and DEFAULT not in tried


def test_it_ends_when_everything_was_tried() -> None:
    size = 1
    for values in FEW.values():
        size *= len(values)
    tried = searched(bowl)
    assert 0.8 * size < len(tried) < size
    assert min(bowl(c) for c in tried) == 0.5


def test_one_by_one_finds_the_bottom_soon() -> None:
    tried = searched(bowl, most=60)
    assert min(map(bowl, tried)) == 0.5


def test_pairs_that_only_help_together_are_found() -> None:
    def score(c: ScheduleChoices) -> float:
        return 0.5 if c.rows == 3 and c.columns == 8 else 1.0 + (c.rows == 3) + (c.columns == 8)

    assert min(map(score, searched(score))) == 0.5


def test_the_same_scores_give_the_same_order() -> None:
    assert searched(bowl, most=300, space=SPACE) == searched(bowl, most=300, space=SPACE)


def test_what_is_known_to_be_good_comes_first() -> None:
    good = replace(DEFAULT, rows=3, columns=8)
    assert searched(bowl, first=[good, DEFAULT, good])[0] == good
    after = searched(bowl, most=20, first=[good])[1:]
    assert all(c.rows == 3 or c.columns == 8 for c in after)


def test_a_gain_below_the_margin_is_none() -> None:
    """Each step is measured from the default, not from what came out 0.5 % better by chance."""
    tried = searched(lambda c: 0.995, most=15, margin=0.01)
    assert all(sum(getattr(c, n) != getattr(DEFAULT, n) for n in FEW) == 1 for c in tried)
