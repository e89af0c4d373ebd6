"""What is estimated rather than measured: cycles from counted instructions, energy from cycles or from time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unfoldc.runtime.profile import Row
from unfoldc.targets.description import Target
from unfoldc.targets.emulator import Counts
from unfoldc.targets.timing import energy, find_timing


def counted(counts: Counts, target: Target) -> dict[str, Any]:
    """The figures of a profile that counting gives: rows of begin, each iteration and end, and those of all."""
    executed = (counts.begin, *counts.iterate, counts.end)
    timing = find_timing(target)
    cycles: tuple[int | None, ...] = counts.cycles or (None,) * len(executed)
    rows = [
        Row(instructions=n, cycles=c, energy_joules=_joules(c, target)) for n, c in zip(executed, cycles, strict=True)
    ]
    total = sum(counts.cycles) if counts.cycles else None
    joules = _joules(total, target)
    return {
        "rows": rows,
        "instructions": counts.total,
        "cycles": total,
        "energy_joules": joules,
        "cycles_source": timing.source if timing is not None and total is not None else "",
        "energy_source": target.power.source if target.power is not None and joules is not None else "",
        "flash_limit_bytes": target.spec.flash_bytes,
        "ram_limit_bytes": target.spec.ram_bytes,
    }


def with_energy(figures: dict[str, Any], target: Target) -> dict[str, Any]:
    """The figures of a profile that a device's clock gave, with the energy of the median times, s * V * A.

    The current is that at the target's clock, so cycles count where they are known: the device may run slower.
    """
    power, seconds, cycles = target.power, figures.get("seconds_p50"), figures.get("cycles_p50")
    figures = {**figures, "flash_limit_bytes": target.spec.flash_bytes, "ram_limit_bytes": target.spec.ram_bytes}
    if power is None or not seconds:
        return figures
    watts = power.volts * power.amperes

    def joules(s: float | None, c: float | None) -> float | None:
        if c is not None and target.clock_hz:
            return c / target.clock_hz * watts
        return None if s is None else s * watts

    rows = [replace(r, energy_joules=joules(r.seconds_p50, r.cycles_p50)) for r in figures["rows"]]
    return {**figures, "rows": rows, "energy_joules": joules(seconds, cycles), "energy_source": power.source}


def _joules(cycles: int | None, target: Target) -> float | None:
    return None if cycles is None else energy(cycles, target)
