"""Energy from counted cycles and from a device's own clock."""

from __future__ import annotations

import pytest

from unfoldc.runtime.estimates import counted, with_energy
from unfoldc.runtime.profile import Row
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Counts


def test_what_counting_gives_adds_up() -> None:
    target = find_target("stm32f407")
    figures = counted(Counts(10, (20, 30), 5, 64, cycles=(16, 32, 48, 8)), target)
    assert [r.instructions for r in figures["rows"]] == [10, 20, 30, 5] and figures["instructions"] == 65
    assert [r.cycles for r in figures["rows"]] == [16, 32, 48, 8] and figures["cycles"] == 104
    assert target.clock_hz == 168_000_000 and target.power is not None
    assert figures["energy_joules"] == pytest.approx(104 / 168e6 * 3.3 * 0.040)
    assert figures["flash_limit_bytes"] == 1 << 20 and figures["ram_limit_bytes"] == 128 << 10


def test_measured_seconds_give_energy_where_the_current_is_known() -> None:
    row = Row(seconds_p50=2e-6, seconds_p99=3e-6)
    figures = {"rows": [row, Row()], "seconds_p50": 4e-6, "note": "kept"}
    found = with_energy(figures, find_target("raspberry-pi-4"))  # 5 V, 0.6 A
    assert [r.energy_joules for r in found["rows"]] == [pytest.approx(2e-6 * 3.0), None]
    assert found["energy_joules"] == pytest.approx(4e-6 * 3.0) and "Raspberry" in found["energy_source"]
    assert found["note"] == "kept" and found["rows"][0].seconds_p99 == 3e-6
    unknown = with_energy(figures, find_target("teensy41"))  # no current is known
    assert "energy_joules" not in unknown and unknown["rows"] == figures["rows"]
    assert (unknown["flash_limit_bytes"], unknown["ram_limit_bytes"]) == (7936 * 1024, 512 * 1024)
    assert "energy_joules" not in with_energy({"rows": []}, find_target("raspberry-pi-4"))
