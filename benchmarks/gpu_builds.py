"""Solvers and ONNX files of the benchmark on GPUs, made side by side and kept in a folder that may travel."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from gpu_processes import side_by_side

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


def build_all(names: list[str], again: bool, jobs: int, plain: bool, seconds: float = float("inf")) -> dict[str, Row]:
    """A row for each graph: the folder of its solver, its plain ONNX file, seconds, registers; or why it failed.

    Each is made in a process of its own, `jobs` at a time for `seconds` in all, unless the folder holds it for these
    very sources; with `again` it is made in any case. What cannot be made is taken from the folder if that has it, as
    it was made elsewhere or from other sources: its row has a `note`. `plain` says whether peers need an ONNX file of
    standard operators.
    """
    waiting = [name for name in names if again or not _is_there(name, plain)]
    commands = {name: [sys.executable, __file__, name, str(int(plain)), str(int(again))] for name in waiting}
    failed = {name: problem for name, problem, _ in side_by_side(commands, jobs, seconds) if problem}
    return {name: _row(name, failed.get(name, "")) for name in names}


def solver_folder(name: str) -> Path:
    """Where the solver of a graph is."""
    return FOLDER / name / "solver"


def plain_file(name: str) -> Path:
    """Where the ONNX file of standard operators is."""
    return FOLDER / name / "plain.onnx"


def build_one(name: str, plain: bool, again: bool) -> None:
    """Export and compile one graph into its folder, as far as that does not hold it for these sources."""
    import torch
    from gpu_cases import GPU_GRAPHS
    from speed_files import export_ours, export_plain

    import unfoldc

    torch.set_num_threads(1)
    graph, folder = GPU_GRAPHS[name], FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = {} if again else _facts(name)
    if not facts:
        start = time.perf_counter()
        export_ours(graph, 1, folder / "ours.onnx")
        exported = time.perf_counter()
        solver = unfoldc.compile(folder / "ours.onnx", backend="cuda", batch=None if graph.dynamic else 1, cache=False)
        solver.save(solver_folder(name))
        facts = {"export_seconds": exported - start, "build_seconds": time.perf_counter() - exported, "note": ""}
        _write(name, facts)
    if plain:
        try:
            export_plain(graph, 1, plain_file(name))
            facts["plain"] = "made"
        except Exception as problem:  # JAX and ONNX Runtime are left out then
            facts["plain"] = f"{type(problem).__name__}: {problem}"[:300]
        _write(name, facts)


def _facts(name: str) -> Row:
    """What the folder says of a solver made from these sources; nothing for any other."""
    try:
        found = dict(json.loads((FOLDER / name / "build.json").read_text()))
    except (OSError, ValueError):
        return {}
    return found if found.pop("sources", "") == _digest() else {}


def _write(name: str, facts: Row) -> None:
    (FOLDER / name / "build.json").write_text(json.dumps({"sources": _digest(), **facts}))


def _is_there(name: str, plain: bool) -> bool:
    facts = _facts(name)
    return bool(facts) and (not plain or "plain" in facts)


def _row(name: str, problem: str) -> Row:
    try:
        facts = json.loads((FOLDER / name / "build.json").read_text())
        return _figures(name, facts | ({"note": f"made before; not again: {problem}"} if problem else {}))
    except (OSError, ValueError, KeyError, StopIteration) as missing:
        return {"failed": problem or f"{type(missing).__name__}: {missing}"[:300]}


def _figures(name: str, facts: Row) -> Row:
    report = json.loads(next(solver_folder(name).glob("*_report.json")).read_text())
    launch = json.loads(next(solver_folder(name).glob("*_launch.json")).read_text())
    kernels = {a: found["kernels"] for a, found in report["architectures"].items()}
    facts.pop("sources", "")
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
    try:
        build_one(sys.argv[1], *(flag == "1" for flag in sys.argv[2:]))
    except Exception as error:
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]) from error
