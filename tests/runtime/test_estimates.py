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
    assert [r.estimated_seconds for r in figures["rows"]] == pytest.approx([n / 168e6 for n in (16, 32, 48, 8)])
    assert figures["estimated_seconds"] == pytest.approx(104 / 168e6)
    assert target.clock_hz == 168_000_000 and target.power is not None
    assert figures["energy_joules"] == pytest.approx(104 / 168e6 * 3.3 * 0.040)
    assert figures["flash_limit_bytes"] == 1 << 20 and figures["ram_limit_bytes"] == 128 << 10


def test_measured_seconds_give_energy_where_the_current_is_known() -> None:
    row = Row(seconds_p50=2e-6, seconds_p99=3e-6)
    figures = {"rows": [row, Row()], "seconds_p50": 4e-6, "note": "kept"}
    found = with_energy(figures, find_target("raspberry-pi-4"), "ssh://pi@there")  # 5 V, 0.6 A
    assert [r.energy_joules for r in found["rows"]] == [pytest.approx(2e-6 * 3.0), None]
    assert found["energy_joules"] == pytest.approx(4e-6 * 3.0) and "Raspberry" in found["energy_source"]
    assert found["note"] == "kept" and found["rows"][0].seconds_p99 == 3e-6
    assert found["remarks"] == [
        "µJ (est.): time at 5 V and 600 mA (Raspberry Pi documentation, Typical power requirements: bare-board active "
        "current, 4B)"
    ]
    unknown = with_energy(figures, find_target("teensy41"), "serial:/dev/null")  # no current is known
    assert unknown["remarks"] == ["energy: not given, no current that the teensy41 draws at its clock is known"]
    assert "energy_joules" not in unknown and unknown["rows"] == figures["rows"]
    assert (unknown["flash_limit_bytes"], unknown["ram_limit_bytes"]) == (7936 * 1024, 512 * 1024)
    assert "energy_joules" not in with_energy({"rows": []}, find_target("raspberry-pi-4"), "local")
    assert "remarks" not in with_energy({"rows": [], "seconds_p50": 1.0}, find_target("host"), "local")


@pytest.mark.parametrize(
    ("launch", "emulator"),
    [
        ("", ""),
        ("taskset -c 3", ""),
        ("sudo chrt -f 99", ""),
        ("qemu-aarch64-static", "qemu-aarch64-static"),
        ("nice /usr/bin/qemu-aarch64 -cpu cortex-a72", "qemu-aarch64"),
        ("/opt/box64", "box64"),
    ],
)
def test_an_emulator_draws_no_current_of_the_board(launch: str, emulator: str) -> None:
    figures = {"rows": [Row(seconds_p50=2e-6)], "seconds_p50": 2e-6}
    on = f"ssh://pi@there?launch={launch}" if launch else "ssh://pi@there"
    found = with_energy(figures, find_target("raspberry-pi-4"), on)
    assert ("energy_joules" in found) == (not emulator) and (found["rows"][0].energy_joules is None) == bool(emulator)
    if emulator:
        assert found["remarks"] == [
            f"times: those of {emulator}, which runs the program, not of the raspberry-pi-4; so no energy is given"
        ]
