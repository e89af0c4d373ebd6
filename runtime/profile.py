"""The table of a profile: one row per iteration, and what the whole solver takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from unfoldc.errors import printable
from unfoldc.runtime.profile_notes import duration, notes

__all__ = ["GpuFigures", "IterationRow", "Profile", "Row", "duration"]


@dataclass(frozen=True)
class Row:
    """One part of a solve; None where a figure does not apply.

    seconds_p50, seconds_p99: median and 99th percentile over the repetitions. error: of the answer when the solver
    stops after this iteration, relative to what `Profile.error_of` says. cycles_p50, cycles_p99: likewise, where a
    connected device counts its processor's cycles. cycles: estimated; estimated_seconds: what these take at the clock
    of the device. energy_joules: of one problem, estimated.
    """

    seconds_p50: float | None = None
    seconds_p99: float | None = None
    instructions: int | None = None
    error: float | None = None
    cycles_p50: float | None = None
    cycles_p99: float | None = None
    cycles: int | None = None
    estimated_seconds: float | None = None
    energy_joules: float | None = None


@dataclass(frozen=True)
class IterationRow(Row):
    """The row of iteration `k`, counted from 1; `error` is that of the answer after `k` iterations."""

    k: int = 0


@dataclass(frozen=True)
class GpuFigures:
    """What a kernel takes of a GPU. `architecture` is the GPU's, `built_for` the one its code was made for.

    `blocks` of `threads` are launched, each solving `problems` at a time. For each thread: `registers`, `local_bytes`
    of memory, of which `spill_stores` and `spill_loads` move registers that did not fit. `shared_bytes` for each block.
    `resident_blocks` run at once on each of the `multiprocessors`; `occupancy` is their share of the threads that
    could.
    """

    device: str
    architecture: str
    built_for: str
    form: str
    blocks: int
    threads: int
    problems: int
    registers: int
    local_bytes: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int
    resident_blocks: int
    occupancy: float
    multiprocessors: int
    launches: int = 0
    """Where a solver is many launches for the whole batch: how many; the other figures are of the largest kernel."""

    def lines(self) -> list[str]:
        """The figures as a person reads them."""
        several = "problem" if self.problems == 1 else "problems"
        shape = f"{self.blocks} blocks of {self.threads} threads"
        if self.launches:
            shape = f"{self.launches} launches, each for the whole batch; the largest kernel has {shape}"
        else:
            shape += f", {self.problems} {several} at a time in each"
        return [
            f"{printable(self.device)} ({self.architecture}, code for {self.built_for}), form {printable(self.form)}: "
            f"{shape}",
            f"{self.registers} registers and {self.local_bytes} bytes of local memory a thread (spills: "
            f"{self.spill_stores} bytes stored, {self.spill_loads} loaded), {self.shared_bytes} bytes of shared memory "
            f"a block; {self.resident_blocks} blocks on each of {self.multiprocessors} multiprocessors, occupancy "
            f"{self.occupancy:.0%}",
        ]


@dataclass(frozen=True)
class Profile:
    """What a solver takes, part by part.

    Seconds are those of one call for the whole batch. The whole call, `seconds_p50` and `seconds_p99`, is timed without
    stamps and contains the way from Python into the compiled code and back, `dispatch_seconds`. The rest is shared out
    over begin, the iterations and end by the stamps inside the compiled program: their counter is calibrated against
    that time, so that the rows add up to it; with several `threads` the stamps are made on one of them. `stamp_seconds`
    is the cost of one stamp and `stamp_overhead` that of all of them (0.02: 2 %), both at batch 1 from medians of
    interleaved runs with and without stamps; noise may make them slightly negative.

    On an emulated device instructions are counted for one problem and nothing is timed. `flash_bytes`, `ram_bytes` and
    `stack_bytes` are measured there; `stack_bound_bytes` is the most stack that any input can make it take, read from
    the machine code (None: unknown; interrupts are not counted); `constant_bytes` and `state_bytes` are the compiler's
    plan, everywhere (None where it has none). `cycles` are estimated by a table of timings, `estimated_seconds` are
    these at the device's clock, `energy_joules` come by the current that the board draws while it computes;
    `cycles_source` and `energy_source` say whose figures these are ("": none are known), `remarks` say in short what is
    estimated how, and what is not. `flash_limit_bytes` and `ram_limit_bytes` are what the device has (None: no device
    in particular, or one that `has_system`, an operating system, so that its "flash" is code and constants in a file).

    On a `gpu` the seconds are those of one launch by its own clock, with all arrays in its memory; `dispatch_seconds`
    is what putting a launch into a stream takes this computer. Where the launches were `simulated`, in Python by numba,
    there are errors alone: nothing was timed, `repeats` is 0, and no GPU is described.

    `on` a connected device its own clock is read, for one problem at a time: the parts are what it counted, without the
    way there and back, and the whole is their sum. `note` says why a measurement ended early.
    """

    backend: str
    target: str
    batch: int
    repeats: int
    iterations: list[IterationRow]
    begin: Row
    end: Row
    constant_bytes: int
    state_bytes: int | None
    error_of: str
    seconds_p50: float | None = None
    seconds_p99: float | None = None
    dispatch_seconds: float | None = None
    stamp_seconds: float | None = None
    stamp_overhead: float | None = None
    instructions: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    stack_bytes: int | None = None
    stack_bound_bytes: int | None = None
    threads: int = 1
    on: str = ""
    cycles_p50: float | None = None
    cycles_p99: float | None = None
    note: str = ""
    cycles: int | None = None
    estimated_seconds: float | None = None
    energy_joules: float | None = None
    cycles_source: str = ""
    energy_source: str = ""
    flash_limit_bytes: int | None = None
    ram_limit_bytes: int | None = None
    has_system: bool = False
    remarks: list[str] = field(default_factory=list)
    gpu: GpuFigures | None = None
    simulated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, as written by `to_json`."""
        return asdict(self)

    def to_json(self) -> str:
        """The profile as a JSON object."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        emulated = self.instructions is not None
        shared = f" over up to {self.threads} threads" if self.threads > 1 else ""
        if self.on:
            shared = f" on {printable(self.on)}"
        runs = "one problem, emulated" if emulated else f"batch {self.batch}{shared}, {self.repeats} repetitions"
        if self.simulated:
            runs = f"batch {self.batch}, SIMULATED by numba in Python: nothing is timed"
        title = f"{len(self.iterations)} iterations on {self.target}, backend {self.backend}, {runs}"
        return "\n".join([title, *_table(self), *notes(self)])


def _table(profile: Profile) -> list[str]:
    whole = Row(
        profile.seconds_p50,
        profile.seconds_p99,
        profile.instructions,
        cycles_p50=profile.cycles_p50,
        cycles_p99=profile.cycles_p99,
        cycles=profile.cycles,
        estimated_seconds=profile.estimated_seconds,
        energy_joules=profile.energy_joules,
    )
    parts: list[tuple[str, Row]] = [("begin", profile.begin)]
    parts += [(str(row.k), row) for row in profile.iterations]
    parts.append(("end", profile.end))
    computing = sum(row.seconds_p50 or 0.0 for _, row in parts)
    rows = [row for _, row in parts]
    cells = [["iteration", *(name for name, _ in parts), "whole call"]]
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("time p50", lambda r: "" if r.seconds_p50 is None else duration(r.seconds_p50)),
        ("time p99", lambda r: "" if r.seconds_p99 is None else duration(r.seconds_p99)),
        ("share", lambda r: "" if r is whole or not r.seconds_p50 else f"{r.seconds_p50 / computing:.1%}"),
        ("cycles p50", lambda r: "" if r.cycles_p50 is None else f"{r.cycles_p50:.0f}"),
        ("cycles p99", lambda r: "" if r.cycles_p99 is None else f"{r.cycles_p99:.0f}"),
        ("instructions", lambda r: "" if r.instructions is None else str(r.instructions)),
        ("cycles (est.)", lambda r: "" if r.cycles is None else str(r.cycles)),
        ("time (est.)", lambda r: "" if r.estimated_seconds is None else duration(r.estimated_seconds)),
        ("µJ (est.)", lambda r: "" if r.energy_joules is None else f"{r.energy_joules * 1e6:.3g}"),
        ("error", lambda r: "" if r.error is None else f"{r.error:.3g}"),
    ]
    for title, text in columns:
        column = [text(row) for row in [*rows, whole]]
        if any(column):
            cells.append([title, *column])
    widths = [max(map(len, column)) for column in cells]
    lines = zip(*cells, strict=True)
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
