from __future__ import annotations

import pytest

from unfoldc.errors import InputError
from unfoldc.unfold_train.schedule import JOINT_SCALE, Phase, plan


def test_end_to_end_is_one_phase() -> None:
    assert plan("end to end", 3, 100) == [Phase("end to end", 3, (0, 1, 2), 100)]


def test_sequential_trains_one_iteration_after_the_other() -> None:
    phases = plan("sequential", 3, 100)
    assert [(p.iterations, p.trained) for p in phases] == [(1, (0,)), (2, (1,)), (3, (2,))]
    assert sum(p.steps for p in phases) == 100


def test_sequential_then_end_to_end_spends_half_on_each() -> None:
    phases = plan("sequential then end to end", 4, 101)
    assert sum(p.steps for p in phases) == 101
    assert phases[-1] == Phase("end to end", 4, (0, 1, 2, 3), 50, JOINT_SCALE)


def test_unknown_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="schedule: 'random'; allowed: 'end to end', 'sequential'"):
        plan("random", 3, 100)  # type: ignore[arg-type]
