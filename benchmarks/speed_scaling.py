"""Scaling of the tied LISTA: time against K, n and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from speed_files import files_of
from speed_limit import Machine, limit_seconds, needs
from speed_measure import Workers, measure

from unfoldc.kernels.pipeline import load_program

PEERS = ["onnxruntime", "openvino", "emx"]
AXES = {
    "K": [(32, 64, k, 1) for k in (1, 2, 4, 8, 16, 32, 64)],
    "n": [(n // 2, n, 16, 1) for n in (8, 16, 32, 64, 128, 256, 512, 1024)],
    "batch": [(32, 64, 16, b) for b in (1, 4, 16, 64, 256, 1024)],
}


def measure_scaling(
    rows: dict[str, Any], machine: Machine, workers: Workers, quick: bool, write: Callable[[], Any]
) -> None:
    """Adds `scaling`: by axis and value the medians of ours and of the peers, and the limit, in seconds."""
    found = rows.setdefault("scaling", {})
    for axis, points in AXES.items():
        found[axis] = {}
        for m, n, k, batch in points[::3] if quick else points:
            name = f"lista-{m}-{n}-tied-k{k}"
            value = {"K": k, "n": n, "batch": batch}[axis]
            try:
                row = measure(workers, name, batch, PEERS, quick, 40.0 if quick else 120.0)
                _, program = load_program(files_of(name, batch)[0]["dynamic"])
                seconds, by = limit_seconds(machine, needs(program, batch))
            except Exception as problem:
                found[axis][str(value)] = {"failed": f"{type(problem).__name__}: {problem}"[:200]}
                continue
            times = {name.split("|")[0]: t["median"] for name, t in row["timed"].items() if name != row.get("ours")}
            if "ours" in row:
                times = {p: t for p, t in times.items() if p in PEERS} | {"ours": row["timed"][row["ours"]]["median"]}
            found[axis][str(value)] = {"seconds": times, "limit": seconds, "limit_by": by}
            print(
                f"scaling {axis} = {value}: " + ", ".join(f"{p} {t * 1e6:.1f} us" for p, t in times.items()), flush=True
            )
            write()
