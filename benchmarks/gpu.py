"""Builds, checks and times the graphs of `gpu_cases` on a GPU, beside PyTorch, JAX and ONNX Runtime.

    python benchmarks/gpu.py [--only GRAPH,...] [--batches 1,64,4096,65536] [--seconds 450] [--dry-run] [--resume]
                             [--jobs N] [--again] [--output NAME]

Answers are checked in float64 before anything is timed; the candidates take turns. Writes benchmarks/results/gpu.json
after each row, and prints a table and how far the goals are. ONNX files and solvers are kept in build/gpu, which may be
made elsewhere and brought along: only what is missing or was made from other sources is made again. What fails is said
and left out, and what ends a process (a crash, a hang) is not tried again.

--dry-run makes everything that takes no GPU: files, machine code for several GPUs, their registers. unfoldc need not
be installed, nor numba-cuda where build/gpu was brought; PyTorch must be, for a GPU.
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
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from without_install import ensure_unfoldc

ensure_unfoldc()

from gpu_builds import build_all, solver_folder  # noqa: E402
from gpu_compile import MODES, compile_all  # noqa: E402
from gpu_processes import end  # noqa: E402
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
_SEARCH, _BUILDS = 0.35, 0.4  # of the time at most, for torch.compile and before it for what was not brought along
_PEERS = ("jax", "onnxruntime", "torch eager, CUDA graph", *(f"torch.compile, {mode}" for mode in MODES))
_WORKER = Path(__file__).with_name("gpu_measure.py")
Row = dict[str, Any]


def main() -> None:
    """Measures what was asked for and prints table and checks."""
    arguments = _arguments()
    begun = time.perf_counter()
    title = arguments.output or ("gpu_dry" if arguments.dry_run else "gpu")
    rows = _before(title) if arguments.resume else {}
    names = arguments.only or list(NAMES)
    gpu: Row = {}
    if not arguments.dry_run:
        gpu = _gpu()
    print(f"building {len(names)} solvers, {arguments.jobs} at a time", flush=True)
    most = float("inf") if arguments.dry_run else _BUILDS * arguments.seconds
    built = build_all(names, arguments.again, arguments.jobs, not arguments.dry_run or arguments.plain, most)
    rows.setdefault("builds", {}).update(built)
    rows["build_seconds"] = round(time.perf_counter() - begun, 1)
    print(registers(rows), flush=True)
    if not arguments.dry_run:
        rows["gpu"] = gpu
        try:
            _measure_all(arguments, [n for n in names if "failed" not in built[n]], rows, title, begun)
        except KeyboardInterrupt:
            print("interrupted; what was measured is kept")
    rows["seconds"] = round(time.perf_counter() - begun, 1)
    path = write_results(title, rows, checks_of(rows), SEEDS)
    print(markdown(json.loads(path.read_text())))
    print_checks(checks_of(rows))
    print(f"written to {path} after {rows['seconds']:.0f} s")


def _gpu() -> Row:
    """What GPU there is, asked before anything is built; one sentence where there is none."""
    try:
        from gpu_device import describe_gpu

        found = describe_gpu()
    except (ImportError, RuntimeError) as error:
        raise SystemExit(f"gpu.py: {error}") from None
    print(found, flush=True)
    return found


def _measure_all(arguments: argparse.Namespace, names: list[str], rows: Row, title: str, begun: float) -> None:
    """The rows of the goals, then the others, in a process for each graph; who comes late has less time."""
    found: Row = rows.setdefault("graphs", {})
    finish = begun + arguments.seconds
    tasks = []
    for name, batches in _order(names, arguments.batches):
        left = [b for b in batches if not (arguments.resume and _is_whole(found.get(f"{name}@{b}", {})))]
        tasks += [(name, left)] if left else []
    most = max(0.0, min(_SEARCH * arguments.seconds, finish - time.perf_counter() - _SEARCH * arguments.seconds))
    rows["compile_seconds"] = _compiled(_searches(tasks), arguments.jobs, most)
    without: list[str] = []  # what ended a process
    worker = _start(*tasks[0]) if tasks else None

    def keep(row: Row) -> None:
        key = f"{row['graph']}@{row['batch']}"
        row["needs"] = _needs_of(row["graph"], row["batch"])
        found[key] = {**found[key], **row} if "failed" in row and "partial" in found.get(key, {}) else row
        print(_console(found[key]), flush=True)
        write_results(title, rows, checks_of(rows), SEEDS)

    while tasks and worker is not None:
        name, left = tasks.pop(0)
        following = _start(*tasks[0]) if tasks else None  # which imports meanwhile, and waits for its turn
        try:
            while left and time.perf_counter() < finish:
                share = len(left) / (len(left) + sum(len(batches) for _, batches in tasks))
                for row in _heard(worker, name, left, share * (finish - time.perf_counter()), without):
                    keep(row)
                    if row.get("at") in _PEERS and row["at"] not in without:
                        without.append(row["at"])  # and the batch once more
                    elif "partial" not in row:
                        left = [b for b in left if b != row["batch"]]
                worker = _start(name, left) if left and time.perf_counter() < finish else None
        except BaseException:
            _end(worker)
            _end(following)
            raise
        for batch in left:
            keep({"graph": name, "batch": batch, "failed": "no time was left"})
        _end(worker)
        worker = following


def _compiled(tasks: list[tuple[str, int, str]], jobs: int, seconds: float) -> dict[str, float]:
    """What torch.compile made in that time: nothing, where it cannot even be asked."""
    print(f"torch.compile searches for {len(tasks)} rows, {jobs} at a time, for {seconds:.0f} s at most", flush=True)
    try:
        made = compile_all(tasks, jobs, seconds)
    except OSError as error:
        print(f"torch.compile: {error}", flush=True)
        return {}
    print(f"torch.compile made {len(made)} rows", flush=True)
    return made


def _is_whole(row: Row) -> bool:
    """Whether a row of an earlier run need not be measured again."""
    return "candidates" in row and "failed" not in row and "partial" not in row


def _order(names: list[str], batches: list[int] | None) -> list[tuple[str, list[int]]]:
    """Graphs with the batches that a process measures, what the goals speak of first."""
    wanted = batches or list(BATCHES)
    tasks = [(name, [int(b) for b in GOALS[name] if b in wanted]) for name in names]
    for name in names:
        others = [] if name in _ONE_ONLY else [b for b in (*_THEN, *wanted) if b in wanted and b not in GOALS[name]]
        others = list(dict.fromkeys(others))
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
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )


def _end(process: subprocess.Popen[str] | None) -> None:
    if process is None:
        return
    if process.poll() is None:
        end(process)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError, ValueError):
                pipe.close()


def _heard(
    process: subprocess.Popen[str], name: str, batches: list[int], seconds: float, without: Collection[str] = ()
) -> Iterator[Row]:
    """The rows of a process as they come: all batches, or those up to one that failed so that the process ended.

    A batch may have a row that is `partial` before. `at` in the last row is what was done when the process ended.
    """
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    longest = min(_LONGEST, max(10.0, seconds) + 30.0)
    count, reason, doing, last = 0, "the process ended", "", dict[str, Any]()
    try:
        _tell(process, seconds, without)
        while count < len(batches):
            line = lines.get(timeout=longest)
            if line is None:
                break
            said = _parsed(line)
            if "doing" in said:
                doing = str(said["doing"])
            elif "graph" in said:
                count, last = count + ("partial" not in said), said
                if "failed" in last and doing:
                    last["at"] = doing
                yield last
    except queue.Empty:
        reason = f"nothing was heard for {longest:.0f} s"
    finally:
        with suppress(subprocess.TimeoutExpired):  # where it has closed what is read from, it is about to end
            process.wait(timeout=1 if count < len(batches) else 10)
        if process.poll() is None:
            end(process)
        reader.join(timeout=5)
        if not reader.is_alive():  # else something that it started holds the other end
            _end(process)
    if count < len(batches) and not ("failed" in last and process.returncode == 3):
        row = {"graph": name, "batch": batches[count], "failed": f"{reason} ({process.returncode})"}
        yield {**row, "at": doing} if doing else row


def _tell(process: subprocess.Popen[str], seconds: float, without: Collection[str]) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it ended already, which is seen by what it says
        process.stdin.write(json.dumps({"seconds": round(max(10.0, seconds), 1), "without": list(without)}) + "\n")
        process.stdin.flush()


def _parsed(line: str) -> Row:
    """A line of a worker's; nothing where a library printed it."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with suppress(ValueError):  # it was closed
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _needs_of(name: str, batch: int) -> Row:
    try:
        return _needs(name, batch)
    except (OSError, ValueError, KeyError, TypeError) as error:  # a roofline less
        return {"problem": f"{type(error).__name__}: {error}"}


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
    parts = [
        f"{name} {1e6 * c['time']['median']:.1f} us" if "time" in c else f"{name} ({c.get('failed', '')[:60]})"
        for name, c in row.get("candidates", {}).items()
    ]
    at = f" with {row['at']}" if "at" in row else ""
    parts += [f"FAILED{at}: {row['failed']}"] if "failed" in row else []
    profile = row.get("profile", {}).get("failed")
    parts += [f"no profile: {profile}"] if profile else []
    taken = "so far" if "partial" in row else f"{row.get('seconds', 0)} s"
    return f"{row['graph']}@{row['batch']}: {'; '.join(parts)} [{taken}]"


def _before(title: str) -> Row:
    path = RESULTS / f"{title}.json"
    try:
        return dict(json.loads(path.read_text())["rows"]) if path.is_file() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"gpu.py --resume: {path} is no file of results ({error})") from None


def _names(text: str) -> list[str]:
    found = text.split(",")
    wrong = [name for name in found if name not in NAMES]
    if wrong:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: choose some of {', '.join(NAMES)}")
    return found


def _batches(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}: choose numbers of problems, as 1,4096")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_names, help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--batches", type=_batches, help=f"others than {', '.join(map(str, BATCHES))}, or some of them")
    parser.add_argument("--seconds", type=float, default=450.0, help="time for everything; 450")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="builds side by side")
    parser.add_argument("--dry-run", action="store_true", help="build everything, measure nothing")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="with --dry-run: the files of JAX and ONNX Runtime, too, for a build/gpu that is to travel",
    )
    parser.add_argument("--again", action="store_true", help="build what is there already, too")
    parser.add_argument("--resume", action="store_true", help="keep the rows of an earlier run that are whole")
    parser.add_argument("--output", metavar="NAME", help="name of the file of results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
