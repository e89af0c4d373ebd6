"""Compares every solver of the zoo with PyTorch on every back end, and says which roll and what they take on a device.

    .venv/bin/python benchmarks/zoo.py [--quick] [--only NAME,NAME]    measure; writes benchmarks/results/zoo.json
    .venv/bin/python benchmarks/zoo.py --docs                          write docs/solvers.md from that file

With --only the rows replace those of the same names in the file; --quick leaves Numba, TVM and the device out.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import RESULTS, check, print_checks, write_results

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from solver_zoo.base import Entry  # noqa: E402  the zoo lies among the tests
from solver_zoo.compare import compiled, errors, named_inputs, rolled  # noqa: E402
from solver_zoo.exports import OURS, TORCH, Case, Way, make_case  # noqa: E402
from solver_zoo.registry import SOLVERS  # noqa: E402

from unfoldc.kernels.inspect import describe  # noqa: E402
from unfoldc.runtime.backends import backends_of  # noqa: E402

DEVICE = "cortex-m4"
QUICK = ("reference", "c", "onnxruntime")
EXPORTS = {"ours": OURS, "torch": TORCH, "torch, loop": Way("torch", "loop")}
SEEDS = {"weights": 1, "example of the export": 2, "inputs": 3}
Row = dict[str, Any]


def measure(entry: Entry, backends: tuple[str, ...], device: bool) -> Row:
    """One solver: rolled from both exports, and from ours the error of every iterate on each back end."""
    row: Row = {
        "field": entry.field,
        "source": entry.source,
        "iterations": entry.iterations,
        "runtime_matrix": entry.runtime_matrix,
        "shared_inputs": list(entry.shared_inputs),
        "notes": dict(entry.notes),
        "tolerance": entry.tolerance,
        "rolled": {name: _rolled(entry, way) for name, way in EXPORTS.items()},
        "backends": {},
        "device": {},
    }
    try:
        case = make_case(entry, _way(entry, OURS))
    except Exception as problem:
        row["problem"] = _text(problem)
        return row
    row["backends"] = {backend: _right(case, backend) for backend in backends}
    if device:
        row["device"] = _on_device(case)
    return row


def _way(entry: Entry, way: Way) -> Way:
    """With a batch of any size, unless the solver needs a fixed one."""
    return replace(way, dynamic=entry.dynamic)


def _rolled(entry: Entry, way: Way) -> Row:
    try:
        case = make_case(entry, _way(entry, way))
        inspection = describe(case.path)
        return {"rolled": rolled(inspection, case), "reasons": list(inspection.not_rolled)}
    except Exception as problem:
        return {"rolled": False, "reasons": [_text(problem)]}


def _right(case: Case, backend: str) -> Row:
    try:
        found = errors(compiled(case, backend), case)
    except Exception as problem:
        return {"right": False, "problem": _text(problem)}
    whole = len(found) == case.iterations
    return {"right": max(found) <= case.tolerance, "error": max(found), "every_iterate": whole}


def _on_device(case: Case) -> Row:
    """Flash and RAM, the error of the first problem, and instructions of the median iteration."""
    try:
        solver = compiled(case, target=DEVICE)
        found = errors(solver, case, problems=1)
        profile = solver.profile(named_inputs(solver, case, problems=1), repeats=1)
    except Exception as problem:
        return {"right": False, "problem": _text(problem)}
    return {
        "right": max(found) <= case.tolerance,
        "error": max(found),
        "flash_bytes": solver.flash_bytes,
        "ram_bytes": solver.ram_bytes,
        "instructions_per_iteration": statistics.median(r.instructions or 0 for r in profile.iterations),
    }


def _text(problem: Exception) -> str:
    """What went wrong, without the folder of the file, which is a new one each time."""
    return re.sub(r"/\S*/(\S+\.onnx)", r"\1", f"{type(problem).__name__}: {problem}")[:400]


def checks_of(rows: dict[str, Row], backends: tuple[str, ...], device: bool) -> list[Row]:
    """The goals: all right everywhere, four of five roll from our export, half of them from torch's own."""
    count, checks = len(rows), []
    for backend in backends:
        right = sum(row["backends"].get(backend, {}).get("right", False) for row in rows.values())
        checks.append(check(f"solvers right on {backend}, of {count}", right, count, True))
    if device:
        fit = [row["device"] for row in rows.values() if "too much" not in row["device"].get("problem", "")]
        right = sum(found.get("right", False) for found in fit)
        checks.append(check(f"solvers right on {DEVICE}, of {len(fit)} that fit", right, len(fit), True))
    for exporter, name, goal in (
        ("ours", "export_onnx", 24),
        ("torch", "the default torch.onnx.export of a ModuleList", 15),
        ("torch, loop", "the default torch.onnx.export of a plain loop", 15),
    ):
        rolling = sum(row["rolled"][exporter]["rolled"] for row in rows.values())
        checks.append(check(f"solvers rolled from {name}, share", rolling / count, goal / 30, True))
    matrices = sum(row["runtime_matrix"] for row in rows.values())
    return [*checks, check("solvers with the matrix at run time", matrices, 8, True)]


def docs_text(result: dict[str, Any]) -> str:
    """docs/solvers.md."""
    rows = result["rows"]
    lines = [
        "# Solvers",
        "",
        f"{len(rows)} unrolled solvers are written for the tests (`tests/solver_zoo/`), exported, compiled, and "
        "compared with PyTorch in float64 after every iteration. This table is made by `benchmarks/zoo.py --docs` from "
        f"`benchmarks/results/zoo.json`, measured on {result['date']}.",
        "",
        "*error* is the largest of all iterates and back ends in float32, relative to the norm of the iterate. "
        "*rolled* says whether one body serves all K iterations, from `unfoldc.export_onnx` / from "
        "`torch.onnx.export` as it is, of a ModuleList / of a plain loop without any mark. "
        f"*flash* and *instructions* per iteration are those of the {DEVICE}.",
        "",
        "| solver | field | source | needs | K | rolled | error | flash | instructions |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_docs_row(name, row) for name, row in sorted(rows.items(), key=lambda item: (item[1]["field"], item[0]))]
    missed = [c for c in result["checks"] if not c["met"]]
    lines += ["", f"Goals met: {len(result['checks']) - len(missed)} of {len(result['checks'])}."]
    lines += [f"Not met: {c['name']}: {c['measured']:.3g}, goal {c['goal']}." for c in missed]
    refused = _refusals(rows)
    if refused:
        lines += ["", "What is not right, or is refused:", "", *refused]
    return "\n".join(lines) + "\n"


def _docs_row(name: str, row: Row) -> str:
    needs = []
    if row["runtime_matrix"]:
        needs.append("matrix at run time")
    needs += [text if key not in ("stream",) else "a stream" for key, text in row["notes"].items()]
    places = [*row["backends"].values(), row["device"]]
    found = [place["error"] for place in places if "error" in place]
    wrong = any(place and not place["right"] for place in places)
    error = (f"{max(found):.1e}" if found else "") + (" (see below)" if wrong else "")
    marks = " / ".join("yes" if row["rolled"][e]["rolled"] else "no" for e in EXPORTS)
    flash, count = (row["device"].get(key) for key in ("flash_bytes", "instructions_per_iteration"))
    device = [f"{flash}" if flash else "", f"{count:.0f}" if count else ""]
    cells = [f"`{name}`", row["field"], row["source"], "; ".join(needs), str(row["iterations"]), marks, error, *device]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _refusals(rows: dict[str, Row]) -> list[str]:
    """A line for each thing that is wrong with a solver, with all the places where it is."""
    lines = []
    for name, row in sorted(rows.items()):
        places: dict[str, list[str]] = {}
        for place, found in (*row["backends"].items(), (DEVICE, row["device"])):
            if found and not found["right"]:
                places.setdefault(found.get("problem") or f"error {found['error']:.2g}", []).append(place)
        if "problem" in row:
            places.setdefault(row["problem"], []).append("export")
        lines += [f"- `{name}`, {', '.join(where)}: {' '.join(text.split())}" for text, where in places.items()]
    return lines


def write_docs() -> Path:
    """Writes docs/solvers.md."""
    path = ROOT / "docs" / "solvers.md"
    path.write_text(docs_text(json.loads((RESULTS / "zoo.json").read_text())), encoding="utf-8")
    return path


def main() -> None:
    """Measures what was asked for, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out Numba, TVM and the device")
    parser.add_argument("--only", default="", help="names of solvers")
    parser.add_argument("--docs", action="store_true", help="write docs/solvers.md and measure nothing")
    arguments = parser.parse_args()
    if arguments.docs:
        print(f"written to {write_docs()}")
        return
    torch.set_num_threads(1)
    backends = QUICK if arguments.quick else tuple(backends_of("host"))
    names = arguments.only.split(",") if arguments.only else list(SOLVERS)
    before = RESULTS / "zoo.json"
    rows = json.loads(before.read_text())["rows"] if arguments.only and before.is_file() else {}
    for name in names:
        print(f"measuring {name}", flush=True)
        rows[name] = measure(SOLVERS[name], backends, not arguments.quick)
    checks = checks_of(rows, backends, not arguments.quick)
    print(f"written to {write_results('zoo', rows, checks, SEEDS)}")
    print_checks(checks)


if __name__ == "__main__":
    main()
