"""Measures what approximated operations promise: errors, gaps that training closes, and what they cost.

    .venv/bin/python benchmarks/approximations.py [--quick] [--only CASE,CASE]

Each case is a file in benchmarks/approximation_cases/ with run(quick) -> (rows, checks). Writes
benchmarks/results/approximations.json; with --only the other cases in that file stay. --quick takes small sizes and
writes approximations_quick.json. A case that raises is recorded as failed and the others go on; Ctrl-C keeps the cases
that are done.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import traceback
from typing import Any

import measuring
import torch
from measuring import print_checks, write_results

CASES = ("linear_solves", "error_and_cost", "detection", "robust_pca", "beamforming")
# The first seed of each case; those of its other sets of problems follow from it.
SEEDS = {"linear_solves": 101, "error_and_cost": 1, "detection": 1, "robust_pca": 1, "beamforming": 1}

Result = dict[str, Any]


def measure(case: str, quick: bool) -> tuple[Result, list[Result]]:
    """The rows of one case with the seconds that it took, and its checks, each marked with the case."""
    started = time.perf_counter()
    rows: list[Result] = []
    checks: list[Result] = []
    failed = ""
    try:
        rows, checks = importlib.import_module(f"approximation_cases.{case}").run(quick)
    except Exception as problem:
        traceback.print_exc()
        failed = f"{type(problem).__name__}: {problem}"
        checks = [{"name": f"{case}: runs to its end", "measured": 0.0, "goal": ">= 1", "met": False}]
    seconds = round(time.perf_counter() - started, 1)
    return {"rows": rows, "quick": quick, "seconds": seconds, "failed": failed}, [{"case": case, **c} for c in checks]


def measure_all(names: list[str], quick: bool) -> tuple[dict[str, Result], list[Result]]:
    """The cases one after the other; those that were done before Ctrl-C where it is pressed."""
    rows: dict[str, Result] = {}
    checks: list[Result] = []
    try:
        for name in names:
            print(f"measuring {name}", flush=True)
            rows[name], found = measure(name, quick)
            checks += found
    except KeyboardInterrupt:
        print(f"interrupted; kept: {', '.join(rows) or 'nothing'}")
    return rows, checks


def merged(name: str, rows: dict[str, Result], checks: list[Result]) -> tuple[dict[str, Result], list[Result]]:
    """With the cases of the present file that were not measured now, in the order of `CASES`."""
    path = measuring.RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.is_file() else {"rows": {}, "checks": []}
    both = {**before["rows"], **rows}
    kept = [c for c in before["checks"] if c["case"] not in rows] + checks
    known = [case for case in CASES if case in both]
    return {case: both[case] for case in known}, sorted(kept, key=lambda c: CASES.index(c["case"]))


def main() -> None:
    """Measures the cases that were asked for and prints the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--only", default=",".join(CASES), help=f"cases among {', '.join(CASES)}")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    torch.set_num_threads(1)
    rows, checks = measure_all(names, arguments.quick)
    if not rows:
        raise SystemExit(130)
    title = "approximations_quick" if arguments.quick else "approximations"
    rows, checks = merged(title, rows, checks)
    path = write_results(title, rows, checks, SEEDS)
    print_checks(checks)
    missed = [c["name"] for c in checks if not c["met"]]
    print(f"{len(checks) - len(missed)} of {len(checks)} checks met")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
