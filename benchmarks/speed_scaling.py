"""Scaling of the tied LISTA: time against K, n and batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from speed_files import files_of
from speed_limit import Machine, limit_seconds, needs
from speed_measure import Workers, measure
from speed_peers import OURS
from speed_tables import best_times

from unfoldc.kernels.pipeline import load_program

PEERS = ["onnxruntime", "openvino", "emx"]
AXES = {
    "K": [(32, 64, k, 1) for k in (1, 2, 4, 8, 16, 32, 64)],
    "n": [(n // 2, n, 16, 1) for n in (8, 16, 32, 64, 128, 256, 512, 1024)],
    "batch": [(32, 64, 16, b) for b in (1, 4, 16, 64, 256, 1024)],
}


def measure_scaling(
    found: dict[str, Any], machine: Machine, workers: Workers, quick: bool, resume: bool
) -> Iterator[str]:
    """Adds the points to `found`, by axis and value the medians of ours and of the peers and the limit, in seconds.

    Yields a line of text after each. `resume` leaves out those that are there.
    """
    for axis, points in AXES.items():
        row = found.setdefault(axis, {})
        for m, n, k, batch in points[::3] if quick else points:
            value = str({"K": k, "n": n, "batch": batch}[axis])
            if resume and value in row:
                continue
            try:
                row[value] = _point(f"lista-{m}-{n}-tied-k{k}", batch, machine, workers, quick)
            except Exception as problem:
                workers.close()
                row[value] = {"failed": f"{type(problem).__name__}: {problem}"[:200]}
            yield f"scaling {axis} = {value}: {_text(row[value])}"


def _point(name: str, batch: int, machine: Machine, workers: Workers, quick: bool) -> dict[str, Any]:
    best = best_times(measure(workers, name, batch, PEERS, quick, 40.0 if quick else 120.0))
    _, program = load_program(files_of(name, batch)[0]["dynamic"])
    seconds, by = limit_seconds(machine, needs(program, batch))
    times = {p: best[p] for p in PEERS if p in best}
    times |= {"ours": min(best[b] for b in OURS if b in best)}
    return {"seconds": times, "limit": seconds, "limit_by": by}


def _text(point: dict[str, Any]) -> str:
    if "failed" in point:
        return str(point["failed"])
    times = {**point["seconds"], "limit": point["limit"]}
    return ", ".join(f"{name} {seconds * 1e6:.3g} us" for name, seconds in times.items())
