"""Solvers and ONNX files of the benchmark on GPUs, made side by side and kept in a folder that may travel."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "gpu"
_SOURCES = (
    "export",
    "kernels",
    "runtime",
    "targets",
    "unfold_train",
    "benchmarks/speed_cases",
    "benchmarks/gpu_cases.py",
)
Row = dict[str, Any]


def build_all(names: list[str], again: bool, jobs: int, plain: bool) -> dict[str, Row]:
    """A row for each graph: the folder of its solver, its plain ONNX file, seconds, registers; or why it failed.

    Each is made in a process of its own, `jobs` at a time, unless the folder holds it for these very sources; with
    `again` it is made in any case. `plain` says whether peers need an ONNX file of standard operators.
    """
    waiting = [name for name in names if again or not _is_there(name, plain)]
    running: dict[str, subprocess.Popen[str]] = {}
    failed: dict[str, Row] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                command = [sys.executable, __file__, name, str(int(plain))]
                running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            time.sleep(0.1)
            for name in [n for n, process in running.items() if process.poll() is not None]:
                output, _ = running[name].communicate()
                if running.pop(name).returncode:
                    failed[name] = {"failed": (output.strip().splitlines() or ["no message"])[-1][:300]}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return {name: failed.get(name) or _row(name) for name in names}


def solver_folder(name: str) -> Path:
    """Where the solver of a graph is."""
    return FOLDER / name / "solver"


def plain_file(name: str) -> Path:
    """Where the ONNX file of standard operators is."""
    return FOLDER / name / "plain.onnx"


def build_one(name: str, plain: bool) -> None:
    """Export and compile one graph into its folder; a solver that travelled here stays where none can be made."""
    import torch
    from gpu_cases import GPU_GRAPHS
    from speed_files import export_ours, export_plain

    import unfoldc
    from unfoldc.errors import ToolError

    torch.set_num_threads(1)
    graph, folder = GPU_GRAPHS[name], FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    export_ours(graph, 1, folder / "ours.onnx")
    exported = time.perf_counter()
    note = ""
    try:
        solver = unfoldc.compile(folder / "ours.onnx", backend="cuda", batch=None if graph.dynamic else 1, cache=False)
        solver.save(solver_folder(name))
    except ToolError as error:
        if not (solver_folder(name) / "artifact.json").is_file():
            raise SystemExit(str(error)) from None
        note = f"built elsewhere, since {error.found}"
    compiled = time.perf_counter()
    if plain:
        export_plain(graph, 1, plain_file(name))
    facts = {"export_seconds": exported - start, "build_seconds": compiled - exported, "note": note}
    (folder / "build.json").write_text(json.dumps({"sources": _digest(), **facts}))


def _is_there(name: str, plain: bool) -> bool:
    try:
        facts = json.loads((FOLDER / name / "build.json").read_text())
    except (OSError, ValueError):
        return False
    return facts["sources"] == _digest() and (not plain or plain_file(name).is_file())


def _row(name: str) -> Row:
    facts = json.loads((FOLDER / name / "build.json").read_text())
    report = json.loads(next(solver_folder(name).glob("*_report.json")).read_text())
    launch = json.loads(next(solver_folder(name).glob("*_launch.json")).read_text())
    kernels = {a: found["kernels"] for a, found in report["architectures"].items()}
    facts.pop("sources")
    return {**facts, "forms": launch["forms"], "kernels": kernels, "tools": report.get("tools", {})}


def _digest() -> str:
    total = hashlib.sha256()
    for name in _SOURCES:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            total.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


if __name__ == "__main__":
    os.environ.pop("NUMBA_ENABLE_CUDASIM", None)
    build_one(sys.argv[1], sys.argv[2] == "1")
