"""Builds, checks and times the graphs of `gpu_cases` on a GPU, beside PyTorch, JAX and ONNX Runtime.

    python benchmarks/gpu.py [--only GRAPH,...] [--batches 1,64,4096,65536] [--seconds 450] [--dry-run] [--resume]
                             [--jobs N] [--again] [--output NAME]

Answers are checked in float64 before anything is timed; the candidates take turns. Writes benchmarks/results/gpu.json
after each row, and prints a table and how far the goals are. ONNX files and solvers are kept in build/gpu, which may be
made elsewhere and brought along: only what is missing or was made from other sources is made again.

--dry-run makes everything that takes no GPU: files, machine code for several GPUs, their registers. unfoldc need not
be installed; PyTorch must be, for a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from without_install import ensure_unfoldc

ensure_unfoldc()

from gpu_builds import build_all, solver_folder  # noqa: E402
from gpu_tables import checks_of, markdown, registers  # noqa: E402
from measuring import RESULTS, print_checks, write_results  # noqa: E402

BATCHES = (1, 64, 4096, 65536)
NAMES = (
    "lista-16-32-tied-k10", "mimo-admm", "beamforming", "wmmse", "lista-32-64-tied-k10", "lista-250-500-tied",
    "rpca-1000",
)  # fmt: skip
SEEDS = {"weights": 1, "example of the export": 2, "inputs": 3}
_LONGEST = 150.0  # seconds of a row, after which it is taken to hang
_FIRST = {"lista-250-500-tied": (4096, 1, 65536, 64), "rpca-1000": (1,)}  # what the goals speak of comes first
_WORKER = Path(__file__).with_name("gpu_measure.py")
Row = dict[str, Any]


def main() -> None:
    """Measures what was asked for and prints table and checks."""
    arguments = _arguments()
    begun = time.perf_counter()
    title = arguments.output or ("gpu_dry" if arguments.dry_run else "gpu")
    rows = _before(title) if arguments.resume else {}
    names = arguments.only.split(",") if arguments.only else list(NAMES)
    print(f"building {len(names)} solvers, {arguments.jobs} at a time", flush=True)
    built = build_all(names, arguments.again, arguments.jobs, plain=not arguments.dry_run or arguments.plain)
    rows.setdefault("builds", {}).update(built)
    rows["build_seconds"] = round(time.perf_counter() - begun, 1)
    print(registers(rows), flush=True)
    if not arguments.dry_run:
        from gpu_device import describe_gpu

        rows["gpu"] = describe_gpu()
        print(rows["gpu"], flush=True)
        try:
            _measure_all(arguments, [n for n in names if "failed" not in built[n]], rows, title, begun)
        except KeyboardInterrupt:
            print("interrupted; what was measured is kept")
    rows["seconds"] = round(time.perf_counter() - begun, 1)
    path = write_results(title, rows, checks_of(rows), SEEDS)
    print(markdown(json.loads(path.read_text())))
    print_checks(checks_of(rows))
    print(f"written to {path} after {rows['seconds']:.0f} s")


def _measure_all(arguments: argparse.Namespace, names: list[str], rows: Row, title: str, begun: float) -> None:
    """Each graph in its process; what time is left is shared out among those that are to come."""
    found: Row = rows.setdefault("graphs", {})
    wanted = [int(b) for b in arguments.batches.split(",")] if arguments.batches else None
    for i, name in enumerate(names):
        order = [b for b in _FIRST.get(name, (1, 65536, 4096, 64)) if wanted is None or b in wanted]
        left = [b for b in order if not (arguments.resume and "candidates" in found.get(f"{name}@{b}", {}))]
        until = time.perf_counter() + (begun + arguments.seconds - time.perf_counter()) / (len(names) - i)
        while left:
            for row in _worker(name, left, until):
                row["needs"] = _needs(name, row["batch"])
                found[f"{name}@{row['batch']}"] = row
                left.remove(row["batch"])
                print(_console(row), flush=True)
                write_results(title, rows, checks_of(rows), SEEDS)


def _worker(name: str, batches: list[int], until: float) -> list[Row]:
    """The rows of one process: all batches, or those up to one that failed so that the process ended."""
    seconds = max(10.0, until - time.perf_counter())
    command = [sys.executable, str(_WORKER), name, ",".join(map(str, batches)), f"{seconds:.0f}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    found: list[Row] = []
    reason = "the process ended"
    try:
        while len(found) < len(batches):
            line = lines.get(timeout=_LONGEST)
            if line is None:
                break
            if line.startswith("{"):
                found.append(json.loads(line))
    except queue.Empty:
        reason = f"nothing was heard for {_LONGEST:.0f} s"
    finally:
        if process.poll() is None and len(found) < len(batches):
            process.kill()
        process.wait()
        reader.join(timeout=5)
    if len(found) < len(batches) and not (found and "failed" in found[-1] and process.returncode == 3):
        batch = batches[len(found)]
        found.append({"graph": name, "batch": batch, "failed": f"{reason} ({process.returncode})"})
    return found


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _needs(name: str, batch: int) -> Row:
    """Operations of a call, and the bytes that it reads and writes at the least."""
    artifact = json.loads((solver_folder(name) / "artifact.json").read_text())["artifact"]
    cost = artifact["cost"]
    flops = cost["begin_flops"] + sum(cost["iterate_flops"]) + cost["end_flops"]
    sizes = {"float32": 4, "float64": 8, "int32": 4, "int64": 8}
    moved = artifact["memory"]["constant_bytes"]
    for port in (*artifact["inputs"], *artifact["outputs"]):
        size = sizes.get(port["dtype"], 1)
        for extent in port["shape"]:
            size *= extent
        moved += size * (batch if port["batched"] else 1)
    return {"flops": flops * batch, "bytes": moved}


def _console(row: Row) -> str:
    if "failed" in row:
        return f"{row['graph']}@{row['batch']}: {row['failed']}"
    parts = [
        f"{name} {1e6 * c['time']['median']:.1f} us" if "time" in c else f"{name} ({c.get('failed', '')[:60]})"
        for name, c in row["candidates"].items()
    ]
    return f"{row['graph']}@{row['batch']}: {'; '.join(parts)} [{row['seconds']} s]"


def _before(title: str) -> Row:
    path = RESULTS / f"{title}.json"
    return dict(json.loads(path.read_text())["rows"]) if path.is_file() else {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--batches", help=f"some of {', '.join(map(str, BATCHES))}")
    parser.add_argument("--seconds", type=float, default=450.0, help="time for everything; 450")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="builds side by side")
    parser.add_argument("--dry-run", action="store_true", help="build everything, measure nothing")
    parser.add_argument("--plain", action="store_true", help="with --dry-run: the peers' ONNX files, too")
    parser.add_argument("--again", action="store_true", help="build what is there already, too")
    parser.add_argument("--resume", action="store_true", help="keep the rows of an earlier run")
    parser.add_argument("--output", metavar="NAME", help="name of the file of results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
