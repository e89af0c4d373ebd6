"""torch.compile's search for all rows, side by side before anything is timed: most of it is the processor's work.

    python gpu_compile.py GRAPH BATCH MODE

compiles one row and leaves what was found in inductor's cache, from which the row's own process has it in seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(tempfile.gettempdir()) / "unfoldc-inductor"
MODES = ("max-autotune", "reduce-overhead")
_THREADS = "4"  # of one process, which are part of no key of the cache
Task = tuple[str, int, str]


def compile_all(tasks: Iterable[Task], jobs: int, seconds: float) -> dict[str, float]:
    """Seconds of each row's compilation, `jobs` at a time in this order; what is not done in time is left out."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": str(FOLDER), "TORCHINDUCTOR_COMPILE_THREADS": _THREADS}
    waiting = [task for task in tasks if not is_compiled(*task)]
    running: dict[Task, tuple[subprocess.Popen[bytes], float]] = {}
    found: dict[str, float] = {}
    begun = time.perf_counter()
    try:
        while (waiting or running) and time.perf_counter() - begun < seconds:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                command = [sys.executable, __file__, *map(str, task)]
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                running[task] = process, time.perf_counter()
            time.sleep(0.1)
            for task in [task for task, (process, _) in running.items() if process.poll() is not None]:
                process, start = running.pop(task)
                if process.returncode == 0:
                    found["{}@{} {}".format(*task)] = round(time.perf_counter() - start, 1)
    finally:
        for process, _ in running.values():
            process.kill()
            process.wait()
    return found


def is_compiled(name: str, batch: int, mode: str) -> bool:
    """Whether the cache holds a row."""
    return _mark(name, batch, mode).is_file()


def _mark(name: str, batch: int, mode: str) -> Path:
    return FOLDER / f"{name}@{batch}.{mode}"


def main(name: str, batch: str, mode: str) -> None:
    """Compile one row."""
    from gpu_cases import GPU_GRAPHS
    from gpu_peers import compiled, without_tf32

    without_tf32()
    graph = GPU_GRAPHS[name]
    compiled(graph, tuple(t.cuda() for t in graph.example(int(batch), seed=3)), mode)
    _mark(name, int(batch), mode).touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
