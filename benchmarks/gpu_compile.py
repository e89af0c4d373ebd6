"""torch.compile's search for all rows, side by side before anything is timed: most of it is the processor's work.

    python gpu_compile.py GRAPH BATCH MODE

compiles one row and leaves what was found in inductor's cache, from which the row's own process has it in seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gpu_processes import LATE, side_by_side

FOLDER = Path(tempfile.gettempdir()) / "unfoldc-inductor"
MODES = ("max-autotune", "reduce-overhead")
_THREADS = "4"  # of one process, which are part of no key of the cache
Task = tuple[str, int, str]


def compile_all(tasks: Iterable[Task], jobs: int, seconds: float) -> dict[str, float]:
    """Seconds of each row's compilation, `jobs` at a time in this order; what is not done in time is left out."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": str(FOLDER), "TORCHINDUCTOR_COMPILE_THREADS": _THREADS}
    commands = {t: [sys.executable, __file__, *map(str, t)] for t in tasks if not is_compiled(*t)}
    found: dict[str, float] = {}
    for task, problem, took in side_by_side(commands, jobs, seconds):
        if not problem:
            found["{}@{} {}".format(*task)] = round(took, 1)
        elif problem != LATE:
            _mark(*task, "failed").write_text(problem)
    return found


def is_compiled(name: str, batch: int, mode: str) -> bool:
    """Whether the cache holds a row."""
    return _mark(name, batch, mode).is_file()


def why_not_compiled(name: str, batch: int, mode: str) -> str:
    """Why the search for a row failed, so that there is no use in trying again; "" where it did not."""
    place = _mark(name, batch, mode, "failed")
    return place.read_text() if place.is_file() and not is_compiled(name, batch, mode) else ""


def _mark(name: str, batch: int, mode: str, end: str = "") -> Path:
    return FOLDER / f"{name}@{batch}.{mode}{end and '.' + end}"


def main(name: str, batch: str, mode: str) -> None:
    """Compile one row."""
    from gpu_cases import GPU_GRAPHS
    from gpu_peers import compiled, without_tf32

    without_tf32()
    graph = GPU_GRAPHS[name]
    compiled(graph, tuple(t.cuda() for t in graph.example(int(batch), seed=3)), mode)
    _mark(name, int(batch), mode).touch()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]) from error
