"""Which answers of a candidate pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.artifact import Port
from unfoldc.runtime.tuning_judge import Judge

PORTS = (Port("y", "float32", (40,), True),)


class Engine:
    """x = change(y + y)."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> None:
        self.change, self.batches = change, list[int]()

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        self.batches.append(batch)
        outputs[0][...] = self.change(inputs[0] + inputs[0])

    profile: Any = None


def judge(lista: Any, untuned: Engine | None = None, exact: Engine | None = None, emulated: bool = False) -> Judge:
    artifact = lista.artifact(inputs=PORTS, outputs=PORTS)
    return Judge(artifact, untuned or Engine(), exact or Engine(), emulated=emulated)


def swapped(x: np.ndarray) -> np.ndarray:
    """Wrong for the last problem of many only."""
    return x if len(x) < 60 else np.concatenate([x[:-1], x[:1]])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda x: x, ""),
        (lambda x: x * np.float32(1 + 1e-6), ""),
        (lambda x: x * np.float32(1.001), "0.001 off"),
        (lambda x: x * np.nan, "not finite"),
        (np.nan_to_num, "finite where"),
        (swapped, "off, relative"),
        (lambda x: np.where(np.arange(40) == 39, 0, x), "off, relative"),
    ],
)
def test_what_passes(lista: Any, change: Any, fault: str) -> None:
    found = judge(lista).fault(Engine(change))
    assert bool(found) == bool(fault) and (not fault or "off" in found or "finite" in found)


def test_a_solver_that_loses_digits_may_lose_them_otherwise(lista: Any) -> None:
    """Untuned is 1e-4 off; so may be a candidate, but not 1e-2."""
    untuned = Engine(lambda x: x * np.float32(1 + 1e-4))
    assert not judge(lista, untuned).fault(Engine(lambda x: x * np.float32(1 - 2e-4)))
    assert judge(lista, untuned).fault(Engine(lambda x: x * np.float32(1.01)))


def test_other_problems_are_drawn_where_the_first_make_no_sense(lista: Any) -> None:
    """Positive ones, for a solver that loses all digits on negative numbers."""
    untuned = Engine(lambda x: np.where(x < 0, -5 * x, x))
    made = judge(lista, untuned)
    assert not made.fault(untuned) and made.fault(Engine(lambda x: x * np.float32(1.01)))


def test_devices_are_asked_for_little(lista: Any) -> None:
    device = Engine()
    made = judge(lista, emulated=True)
    assert not made.fault(device) and device.batches == [1, 1]
    host = Engine()
    assert not judge(lista).fault(host) and host.batches == [2, 2, 67]
