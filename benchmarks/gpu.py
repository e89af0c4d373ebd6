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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from without_install import ensure_unfoldc

ensure_unfoldc()

from gpu_builds import build_all, solver_folder  # noqa: E402
from gpu_compile import MODES, compile_all  # noqa: E402
from gpu_tables import checks_of, markdown, registers  # noqa: E402
from measuring import RESULTS, print_checks, write_results  # noqa: E402

BATCHES = (1, 64, 4096, 65536)
NAMES = (
    "lista-16-32-tied-k10", "mimo-admm", "beamforming", "wmmse", "lista-32-64-tied-k10", "lista-250-500-tied",
    "rpca-1000",
)  # fmt: skip
SEEDS = {"weights": 1, "example of the export": 2, "inputs": 3}
_LONGEST = 150.0  # seconds of a row, after which it is taken to hang
# What the goals speak of comes first.
GOALS = {
    "lista-16-32-tied-k10": (1,), "mimo-admm": (1, 65536), "beamforming": (65536,), "wmmse": (1,),
    "lista-32-64-tied-k10": (1,), "lista-250-500-tied": (4096,), "rpca-1000": (1,),
}  # fmt: skip
_ONE_ONLY = ("rpca-1000",)
_THEN: tuple[int, ...] = (1, 65536, 4096, 64)
_SEARCH = 0.35  # of the time at most, for torch.compile
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
    """The rows of the goals, then the others, in a process for each graph; who comes late has less time."""
    found: Row = rows.setdefault("graphs", {})
    tasks = []
    for name, batches in _order(names, arguments.batches):
        left = [b for b in batches if not (arguments.resume and "candidates" in found.get(f"{name}@{b}", {}))]
        tasks += [(name, left)] if left else []
    rows["compile_seconds"] = compile_all(_searches(tasks), arguments.jobs, _SEARCH * arguments.seconds)
    print(f"torch.compile made {len(rows['compile_seconds'])} rows", flush=True)
    finish = begun + arguments.seconds
    worker = _start(*tasks[0]) if tasks else None
    while tasks and worker is not None:
        name, left = tasks.pop(0)
        following = _start(*tasks[0]) if tasks else None  # which imports meanwhile, and waits for its turn
        try:
            while left:
                share = len(left) / (len(left) + sum(len(batches) for _, batches in tasks))
                for row in _heard(worker, name, left, share * (finish - time.perf_counter())):
                    row["needs"] = _needs(name, row["batch"])
                    found[f"{name}@{row['batch']}"] = row
                    left = [b for b in left if b != row["batch"]]
                    print(_console(row), flush=True)
                    write_results(title, rows, checks_of(rows), SEEDS)
                worker = _start(name, left) if left else worker
        except BaseException:
            _end(following)
            raise
        worker = following


def _order(names: list[str], batches: str | None) -> list[tuple[str, list[int]]]:
    """Graphs with the batches that a process measures, what the goals speak of first."""
    wanted = [int(b) for b in batches.split(",")] if batches else list(BATCHES)
    tasks = [(name, [int(b) for b in GOALS[name] if b in wanted]) for name in names]
    for name in names:
        others = [] if name in _ONE_ONLY else [b for b in _THEN if b in wanted and b not in GOALS[name]]
        tasks.append((name, others))
    return [task for task in tasks if task[1]]


def _searches(tasks: list[tuple[str, list[int]]]) -> list[tuple[str, int, str]]:
    """What torch.compile is to search for: the rows of goals in both modes first, the others in one."""
    rows = [(name, batch) for name, batches in tasks for batch in batches]
    goals = [(name, batch, mode) for mode in MODES for name, batch in rows if batch in GOALS[name]]
    return goals + [(name, batch, MODES[0]) for name, batch in rows if batch not in GOALS[name]]


def _start(name: str, batches: list[int]) -> subprocess.Popen[str]:
    """A process that measures when it is told how many seconds it has."""
    command = [sys.executable, str(_WORKER), name, ",".join(map(str, batches))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str] | None) -> None:
    if process is not None:
        process.kill()
        process.communicate()


def _heard(process: subprocess.Popen[str], name: str, batches: list[int], seconds: float) -> Iterator[Row]:
    """The rows of a process as they come: all batches, or those up to one that failed so that the process ended."""
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    count, reason, last = 0, "the process ended", dict[str, Any]()
    try:
        _tell(process, seconds)
        while count < len(batches):
            line = lines.get(timeout=_LONGEST)
            if line is None:
                break
            if line.startswith("{"):
                count, last = count + 1, json.loads(line)
                yield last
    except queue.Empty:
        reason = f"nothing was heard for {_LONGEST:.0f} s"
    finally:
        if process.poll() is None and count < len(batches):
            process.kill()
        process.wait()
        reader.join(timeout=5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
    if count < len(batches) and not ("failed" in last and process.returncode == 3):
        yield {"graph": name, "batch": batches[count], "failed": f"{reason} ({process.returncode})"}


def _tell(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it ended already, which is seen by what it says
        process.stdin.write(f"{max(10.0, seconds):.0f}\n")
        process.stdin.flush()


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
