"""Compile time of each graph at K = 32 in a fresh process: with an empty cache, then from it; imports excluded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speed_cases import find_graph

import unfoldc

ITERATIONS = 32
_RUN = """
import sys, time
import numpy, onnx, unfoldc, unfoldc.pipeline, unfoldc.kernels.pipeline, unfoldc.runtime.solver, unfoldc.targets
start = time.perf_counter()
solver = unfoldc.compile(sys.argv[1], backend="c")
print(time.perf_counter() - start, int(solver.iterations))
"""


def measure_compile(found: dict[str, Any], names: list[str], resume: bool) -> Iterator[str]:
    """Adds the seconds of each graph, cold and warm, to `found`, and yields a line of text after each.

    The C compiler's run-time library is there before: it takes 10 s, once on a machine.
    """
    for name in names:
        if resume and name in found:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[name] = _one(name, Path(folder))
            except Exception as problem:
                found[name] = {"failed": f"{type(problem).__name__}: {str(problem)[-300:]}"}
        yield f"compile {name}: {found[name]}"


def _one(name: str, folder: Path) -> dict[str, float]:
    graph = find_graph(name)
    path = folder / "model.onnx"
    unfoldc.export_onnx(
        graph.module(ITERATIONS), graph.example(3), path, iterations="iteration",
        batch="dynamic" if graph.dynamic else "fixed", opset=graph.opset, check=False,
    )  # fmt: skip
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    cache = folder / "cache" / "unfoldc"
    cache.mkdir(parents=True)
    (home / "unfoldc" / "zig").mkdir(parents=True, exist_ok=True)
    (cache / "zig").symlink_to(home / "unfoldc" / "zig")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    seconds = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(path)], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        seconds.append(float(done.stdout.split()[0]))
    return {"cold_seconds": seconds[0], "warm_seconds": sorted(seconds[1:])[1]}
