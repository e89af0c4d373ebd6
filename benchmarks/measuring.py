"""What the benchmarks share: interleaved timing, the machine's description, and the result file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("unfoldc", "numpy", "torch", "onnx", "onnxruntime", "numba", "ziglang", "unicorn", "apache-tvm")


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], rounds: int = 30, seconds: float = 0.02
) -> dict[str, dict[str, float]]:
    """Times the candidates in turn, `rounds` times, each for about `seconds`; seconds per call as median and quartiles.

    Taking turns lets a change of the machine's speed meet all candidates alike; `ratio` is not taken from the medians
    but by the caller from rounds, see `ratios`.
    """
    calls = {}
    for name, call in candidates.items():
        call()
        start = time.perf_counter()
        call()
        once = max(time.perf_counter() - start, 1e-7)
        calls[name] = max(1, round(seconds / once))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            n = calls[name]
            start = time.perf_counter()
            for _ in range(n):
                call()
            samples[name].append((time.perf_counter() - start) / n)
    return {name: {**spread(s), "samples": s} for name, s in samples.items()}  # type: ignore[dict-item]


def ratios(timed: Mapping[str, Any], slow: str, fast: str) -> dict[str, float]:
    """How many times longer `slow` takes than `fast`, from the rounds of one interleaved run."""
    return spread([a / b for a, b in zip(timed[slow]["samples"], timed[fast]["samples"], strict=True)])


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartile_1": low, "quartile_3": high}


def check(name: str, measured: float, goal: float, at_least: bool) -> dict[str, Any]:
    """One entry of `checks`."""
    met = measured >= goal if at_least else measured <= goal
    return {"name": name, "measured": measured, "goal": f"{'>=' if at_least else '<='} {goal:g}", "met": bool(met)}


def write_results(name: str, rows: Any, checks: list[dict[str, Any]], seeds: Mapping[str, int]) -> Path:
    """Writes `results/<name>.json` aside and renames it."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": name,
        "date": date.today().isoformat(),
        "commit": _commit(),
        "machine": machine(),
        "versions": {p: _version(p) for p in _PACKAGES},
        "seeds": dict(seeds),
        "rows": rows,
        "checks": checks,
    }
    path = RESULTS / f"{name}.json"
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.rename(path)
    return path


def print_checks(checks: list[dict[str, Any]]) -> None:
    """The checks as a table."""
    width = max((len(c["name"]) for c in checks), default=0)
    for c in checks:
        print(f"{c['name']:<{width}}  {c['measured']:>12.5g}  goal {c['goal']:<10} {'met' if c['met'] else 'NOT MET'}")


def machine() -> dict[str, Any]:
    """Processor, cores and system."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = next(
            (
                line.split(":", 1)[1].strip()
                for line in cpuinfo.read_text().splitlines()
                if line.startswith("model name")
            ),
            "",
        )
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() + ("+" if changed.stdout.strip() else "") if done.returncode == 0 else ""
