"""Counts what ten solvers take on microcontrollers, in our C and in emx-onnx-cgen's: instructions, flash, stack.

    .venv/bin/python benchmarks/mcu.py [--quick] [--only SOLVER,...] [--cores CORE,...] [--ours]
    .venv/bin/python benchmarks/mcu.py --docs

The first writes benchmarks/results/mcu.json after each solver, the second the tables of docs/microcontrollers.md.

Both programs are compiled by the same compiler with the same flags, linked with the same start-up code and `main`
without what is not called, and run in the same emulator; answers are checked in float64 before anything is counted.
emx-onnx-cgen is given four files, of which the one with the fewest instructions counts: what `torch.onnx.export`
writes, what our exporter writes, and both rewritten by ONNX Runtime. Ours is compiled from our exporter's file.

Flash is compared file by file: that of `torch.onnx.export`, in which weights that iterations share may be there K
times, and ours, in which they are once. With --only or --cores the other rows of the result file stay.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mcu_cases import CASES, ITERATIONS, MANY, ONE, Case, answers
from mcu_checks import checks_of
from mcu_emx import SYMBOL, emx_artifact
from mcu_tables import console_line, tables_text
from measuring import RESULTS, print_checks, write_results
from speed_files import ROOT, export_ours, export_plain, fold, once, sources_of
from write_docs import replace_section

from unfoldc.errors import UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.targets.boards import all_targets, find_target
from unfoldc.targets.description import Target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware

CORES = ("cortex-m4", "rv32imfc")
QUICK = ("lista-untied", "wmmse")
SEEDS = {"weights": 1, "example of the export": 2, "inputs": 3}
FOLDER = ROOT / "build" / "mcu"
PAGE = ROOT / "docs" / "microcontrollers.md"
Row = dict[str, Any]


def measure(case: Case, target: Target, folder: Path = FOLDER, emx: Row | None = None) -> Row:
    """All figures of one solver on one core; `emx`: those of emx-onnx-cgen, where they are known."""
    case = case.iterations(ITERATIONS)
    files = files_of(case, folder)
    row: Row = {"title": case.graph.title, "field": case.field, "tied": case.tied, "iterations": ITERATIONS}
    inputs = case.graph.example(1, SEEDS["inputs"])
    right = answers(case.graph, inputs)
    data = [t.numpy() for t in inputs]
    made: dict[str, Artifact] = {}
    row["ours"] = {}
    for form in ("ours", "torch"):
        made[form] = compile_onnx(files[form], target.spec, "c", symbol=SYMBOL)
        row["ours"][form] = figures(made[form], target, data, right)
    row["emx"] = emx or {
        form: _attempt(lambda p=path: figures(emx_artifact(p, made["ours"]), target, data, right))
        for form, path in files.items()
    }
    row["stack"] = {str(k): _stack(case.iterations(k), target, folder) for k in (ONE, MANY)}
    return row


def figures(artifact: Artifact, target: Target, inputs: list[np.ndarray], right: list[np.ndarray]) -> Row:
    """What one program takes: its error first, then instructions of a solve, flash, and the stack that it used."""
    problem = [np.reshape(a, port.shape) for a, port in zip(inputs, artifact.inputs, strict=True)]
    with tempfile.TemporaryDirectory(prefix="mcu-") as folder:
        firmware = build_firmware(artifact, target, Path(folder))
        emulator = Emulator(firmware, artifact, target)
        error = relative_error(emulator.solve(problem), right)
        counts = emulator.count(problem)
    return {
        "error": error,
        "instructions": counts.solve,
        "flash_bytes": firmware.flash_bytes,
        "ram_bytes": firmware.ram_bytes,
        "stack_bytes": counts.stack_bytes,
        "stack_bound_bytes": firmware.stack_bound_bytes,
    }


def relative_error(found: list[np.ndarray], right: list[np.ndarray]) -> float:
    """||found - right|| / ||right||, the largest of the outputs; infinite where a number is none."""
    errors = [
        float(np.linalg.norm(x.astype(np.float64).ravel() - r.ravel()) / np.linalg.norm(r))
        for x, r in zip(found, right, strict=True)
    ]
    return max(errors) if np.all(np.isfinite(errors)) else float("inf")


def files_of(case: Case, folder: Path) -> dict[str, Path]:
    """The model files by form, for one problem; kept until what they are made from changes."""
    graph = case.graph
    sizes = hashlib.sha256((ROOT / "benchmarks" / "mcu_cases.py").read_bytes()).hexdigest()[:6]
    place = folder / f"{graph.name}-k{graph.iterations}-{sources_of(graph)}-{sizes}"
    place.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    exports: dict[str, Callable[..., None]] = {"ours": export_ours, "torch": export_plain}
    for form, export in exports.items():
        files[form] = once(place / f"{form}.onnx", lambda p, e=export: e(graph, 1, p))
        files[f"{form}, rewritten"] = once(place / f"{form}-rewritten.onnx", lambda p, f=files[form]: fold(f, p))
    return files


def _stack(case: Case, target: Target, folder: Path) -> Row:
    """The stack of our program for another number of iterations."""
    inputs = case.graph.example(1, SEEDS["inputs"])
    artifact = compile_onnx(files_of(case, folder)["ours"], target.spec, "c", symbol=SYMBOL)
    found = figures(artifact, target, [t.numpy() for t in inputs], answers(case.graph, inputs))
    return {key: found[key] for key in ("error", "stack_bytes", "stack_bound_bytes", "flash_bytes", "ram_bytes")}


def _attempt(call: Callable[[], Row]) -> Row:
    try:
        return call()
    except UnfoldcError as problem:
        return {"failed": " ".join(str(problem).split())[:300]}


def main() -> None:
    """Measures what was asked for, or writes the page."""
    arguments = _arguments()
    if arguments.docs:
        replace_section(PAGE, tables_text(json.loads((RESULTS / "mcu.json").read_text())))
        print(f"written to {PAGE}")
        return
    torch.set_num_threads(1)
    title = "mcu_quick" if arguments.quick else "mcu"
    before = RESULTS / f"{title}.json"
    some = arguments.only or arguments.cores or arguments.ours
    rows: Row = json.loads(before.read_text())["rows"] if some and before.is_file() else {}
    rows["emx"] = metadata.version("emx-onnx-cgen")
    try:
        for core in _split(arguments.cores) or [c for c in CORES if c in {t.name for t in all_targets()}]:
            for name in _split(arguments.only) or (QUICK if arguments.quick else CASES):
                found = rows.setdefault("cores", {}).setdefault(core, {})
                known = found.get(name, {}).get("emx") if arguments.ours else None
                row = measure(CASES[name], find_target(core), emx=known)
                found[name] = row
                rows["cores"][core] = {n: found[n] for n in CASES if n in found}
                print(console_line(core, name, row), flush=True)
                write_results(title, rows, checks_of(rows), SEEDS)
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept")
    print_checks(checks_of(rows))


def _split(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK)} alone, into mcu_quick.json")
    parser.add_argument("--only", default="", help="names of solvers")
    parser.add_argument("--cores", default="", help=f"{', '.join(CORES)}")
    parser.add_argument("--ours", action="store_true", help="keep emx-onnx-cgen's figures of the result file")
    parser.add_argument("--docs", action="store_true", help="write the tables and measure nothing")
    arguments = parser.parse_args()
    if unknown := set(_split(arguments.only)) - set(CASES):
        parser.error(f"no solver {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return arguments


if __name__ == "__main__":
    main()
