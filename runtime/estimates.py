"""What is estimated rather than measured: cycles and time from counted instructions, energy from time.

`remarks` say in one line each what a figure is made of, and why another is not given.
"""

from __future__ import annotations

import os.path
import shlex
from dataclasses import replace
from typing import Any

from unfoldc.errors import printable
from unfoldc.runtime.profile import Row
from unfoldc.targets.description import Target
from unfoldc.targets.emulator import Counts
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.timing import energy, find_timing

# They start a program as it is; what else `launch=` may name is taken for an emulator.
_STARTERS = ("chrt", "env", "ionice", "nice", "numactl", "sudo", "taskset", "timeout")


def counted(counts: Counts, target: Target) -> dict[str, Any]:
    """The figures of a profile that counting gives: rows of begin, each iteration and end, and those of all."""
    executed = (counts.begin, *counts.iterate, counts.end)
    cycles: tuple[int | None, ...] = counts.cycles or (None,) * len(executed)
    total = sum(counts.cycles) if counts.cycles else None
    timing = find_timing(target)
    joules = _joules(total, target)
    return {
        "rows": [
            Row(instructions=n, cycles=c, estimated_seconds=_seconds(c, target), energy_joules=_joules(c, target))
            for n, c in zip(executed, cycles, strict=True)
        ],
        "instructions": counts.total,
        "cycles": total,
        "estimated_seconds": _seconds(total, target),
        "energy_joules": joules,
        "cycles_source": timing.source if timing is not None and total is not None else "",
        "energy_source": target.power.source if target.power is not None and joules is not None else "",
        "remarks": _remarks(counts, target),
        **limits(target),
    }


def with_energy(figures: dict[str, Any], target: Target, on: str) -> dict[str, Any]:
    """The figures of a profile that a device's clock gave, with the energy of the median times, s * V * A.

    The current is that at the target's clock, so cycles count where they are known: the device may run slower. There
    is none where the times are not those of the target, because an emulator runs the program.
    """
    power, seconds, cycles = target.power, figures.get("seconds_p50"), figures.get("cycles_p50")
    figures = {**figures, **limits(target)}
    if target.kind != "emulated" or not seconds:
        return figures
    emulator = emulator_of(on)
    if emulator:
        times = f"times: those of {emulator}, which runs the program, not of the {target.name}; so no energy is given"
        return {**figures, "remarks": [times]}
    if power is None:
        return {**figures, "remarks": [_no_energy(target)]}
    watts = power.volts * power.amperes

    def joules(s: float | None, c: float | None) -> float | None:
        if c is not None and target.clock_hz:
            return c / target.clock_hz * watts
        return None if s is None else s * watts

    rows = [replace(r, energy_joules=joules(r.seconds_p50, r.cycles_p50)) for r in figures["rows"]]
    found = {"rows": rows, "energy_joules": joules(seconds, cycles), "energy_source": power.source}
    return {**figures, **found, "remarks": [_energy(target)]}


def emulator_of(on: str) -> str:
    """The program that emulates the device at this address; "" where the device itself runs the solver."""
    launch = parse_address(on).options.get("launch", "")
    programs = [os.path.basename(word) for word in shlex.split(launch)]
    if not programs:
        return ""
    named = [p for p in programs if p.startswith("qemu")]
    return printable(named[0] if named else "" if programs[0] in _STARTERS else programs[0], 60)


def limits(target: Target) -> dict[str, int | None]:
    """Bytes that the device has for the solver; none where an operating system hands them out."""
    if target.has_system:
        return {"flash_limit_bytes": None, "ram_limit_bytes": None}
    return {"flash_limit_bytes": target.spec.flash_bytes, "ram_limit_bytes": target.spec.ram_bytes}


def _remarks(counts: Counts, target: Target) -> list[str]:
    timing = find_timing(target)
    if not counts.cycles or timing is None:
        why = f"no table is known for the {target.name}" if timing is None else "QEMU counts all instructions as one"
        return [f"cycles, time and energy: not estimated, {why}"]
    cycles = f"cycles (est.): from instructions by {timing.basis}; no waiting for memory or results"
    if not target.clock_hz:
        return [cycles, f"time and energy: not given, the {target.name} is no board with a clock and a current"]
    return [cycles, f"time (est.): cycles at {target.clock_hz / 1e6:g} MHz", _energy(target)]


def _energy(target: Target) -> str:
    power = target.power
    if power is None:
        return _no_energy(target)
    return f"µJ (est.): time at {power.volts:g} V and {power.amperes * 1e3:g} mA ({power.source})"


def _no_energy(target: Target) -> str:
    return f"energy: not given, no current that the {target.name} draws at its clock is known"


def _seconds(cycles: int | None, target: Target) -> float | None:
    return None if cycles is None or not target.clock_hz else cycles / target.clock_hz


def _joules(cycles: int | None, target: Target) -> float | None:
    return None if cycles is None else energy(cycles, target)
