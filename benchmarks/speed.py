"""Times every graph of `speed_cases` on our back ends and every peer of `speed_peers`, and says how far the limit is.

    .venv/bin/python benchmarks/speed.py [--quick] [--only GRAPH,...] [--batches 1,16,256,1024] [--peers NAME,...]
                                         [--parts graphs,backends,compile,scaling] [--output NAME] [--resume]

One thread on one core; answers are checked in float64 before anything is timed; the candidates take turns. Writes
benchmarks/results/speed.json after each graph (speed_quick.json with --quick); with --only, --batches or --resume what
was measured before stays, and --resume leaves out what is there. Files and products of peers are kept in build/speed.

Times are what a caller from Python sees: our solver on NumPy arrays or on arrays bound in advance, ONNX Runtime by run
or by binding, OpenVINO on a bound request, IREE on device buffers, TVM's virtual machine on its tensors, torch.compile
on tensors, flat C through ctypes with prepared pointers.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from typing import Any

import measuring
import torch
from measuring import print_checks, write_results
from speed_backends import measure_backends
from speed_cases import GRAPHS
from speed_checks import checks_of
from speed_compile import measure_compile
from speed_files import FOLDER, files_of
from speed_limit import Machine, limit_seconds, measure_machine, needs
from speed_measure import Workers, measure
from speed_peers import PEERS, versions
from speed_scaling import measure_scaling
from speed_tables import console_line
from speed_worker import THREADS, TOO_SLOW

from unfoldc.kernels.pipeline import load_program

BATCHES = (1, 16, 256, 1024)
_LARGEST = 2**28  # bytes of inputs
SEEDS = {"weights": 1, "example of the export": 2, "inputs": 3}
PARTS = ("graphs", "backends", "compile", "scaling")
Row = dict[str, Any]


def main() -> None:
    """Measures what was asked for and prints the checks."""
    arguments = _arguments()
    torch.set_num_threads(1)
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by the libraries when a worker starts
    title = arguments.output or ("speed_quick" if arguments.quick else "speed")
    rows = _before(title)
    if not (arguments.resume or arguments.only or arguments.batches or arguments.parts != ",".join(PARTS)):
        rows = {}
    core = max(os.sched_getaffinity(0))
    machine = _machine(core)
    rows["machine"] = {"core": core, "peak": machine.peak, "levels": machine.levels}
    rows["versions"] = versions()
    workers = Workers(core)
    started = time.perf_counter()
    try:
        for part in arguments.parts.split(","):
            if part == "graphs":
                _graphs(arguments, rows, machine, workers, title)
            elif part == "backends":
                found = rows.setdefault(part, {})
                _written(
                    title, rows, measure_backends(found, core, _names(arguments), arguments.quick, arguments.resume)
                )
            elif part == "compile":
                names = _names(arguments)[: 2 if arguments.quick else None]
                _written(title, rows, measure_compile(rows.setdefault(part, {}), names, arguments.resume))
            else:
                points = rows.setdefault(part, {})
                found = measure_scaling(points, machine, workers, arguments.quick, arguments.resume)
                _written(title, rows, found)
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept")
    finally:
        workers.close()
    rows["seconds"] = round(time.perf_counter() - started, 1)
    print_checks(checks_of(rows))
    print(f"written to {_write(title, rows)} after {rows['seconds']:.0f} s")


def _written(title: str, rows: Row, lines: Iterable[str]) -> None:
    """Prints what is found and writes it down, piece by piece."""
    for line in lines:
        print(line, flush=True)
        _write(title, rows)


def _graphs(arguments: argparse.Namespace, rows: Row, machine: Machine, workers: Workers, title: str) -> None:
    batches = [int(b) for b in arguments.batches.split(",")] if arguments.batches else _batches(arguments.quick)
    peers = arguments.peers.split(",") if arguments.peers else list(PEERS)
    found: Row = rows.setdefault("graphs", {})
    for name in _names(arguments):
        slow = 0.0
        for batch in batches:
            key = f"{name}@{batch}"
            if arguments.resume and key in found:
                slow = _seconds_each(found[key]) or slow
                continue
            reason = f"a call takes about {slow * batch:.1f} s" if slow * batch > TOO_SLOW else _too_large(name, batch)
            if reason:
                print(f"{name} at batch {batch}: left out, {reason}", flush=True)
                found[key] = {"graph": name, "batch": batch, "left_out": reason}
                _write(title, rows)
                continue
            found[key] = row = measured(workers, name, batch, peers, arguments.quick, machine)
            slow = _seconds_each(row) or slow
            print(console_line(row), flush=True)
            _write(title, rows)


def _too_large(name: str, batch: int) -> str:
    """Why the inputs take more memory than copies in every process leave room for; empty if they do not."""
    size = batch * sum(t.numel() * t.element_size() for t in GRAPHS[name].example(1))
    return f"its inputs take {size / 2**30:.1f} GiB" if size > _LARGEST else ""


def measured(workers: Workers, name: str, batch: int, peers: list[str], quick: bool, machine: Machine) -> Row:
    """A row with the limit; a graph that cannot be measured at all says why."""
    begun = time.perf_counter()
    try:
        row = measure(workers, name, batch, peers, quick, 40.0 if quick else 120.0)
        files, _ = files_of(name, batch)
        fixed = not GRAPHS[name].dynamic if name in GRAPHS else False
        _, program = load_program(files["dynamic"], batch=batch if fixed else None)
        need = needs(program, 1 if fixed else batch)
        seconds, by = limit_seconds(machine, need)
        row["limit"] = {"seconds": seconds, "by": by, **need}
    except Exception as problem:
        workers.close()  # there may be answers on the way that nobody waits for
        row = {"graph": name, "batch": batch, "failed": f"{type(problem).__name__}: {problem}"[:300]}
    return {**row, "seconds": round(time.perf_counter() - begun, 1), "quick": quick}


def _seconds_each(row: Row) -> float:
    """Ours for one problem, 0 where it was not measured."""
    return float(row["timed"][row["ours"]]["median"] / row["batch"]) if "ours" in row else 0.0


def _batches(quick: bool) -> list[int]:
    return [1] if quick else list(BATCHES)


def _names(arguments: argparse.Namespace) -> list[str]:
    return arguments.only.split(",") if arguments.only else list(GRAPHS)


def _machine(core: int) -> Machine:
    """Measured on the core that the graphs run on."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        machine = measure_machine(FOLDER / "limit", core)
    finally:
        os.sched_setaffinity(0, allowed)
    levels = ", ".join(f"{name} {rate / 1e9:.0f} GB/s" for name, _, rate in machine.levels)
    print(f"core {core}: {machine.peak / 1e9:.0f} Gflop/s, {levels}", flush=True)
    return machine


def _before(title: str) -> Row:
    path = measuring.RESULTS / f"{title}.json"
    rows: Row = json.loads(path.read_text())["rows"] if path.is_file() else {}
    return rows


def _write(title: str, rows: Row) -> Any:
    places = {name: place for place, name in enumerate(GRAPHS)}
    graphs = rows.get("graphs", {})
    ordered = dict(sorted(graphs.items(), key=lambda g: (places[g[1]["graph"]], g[1]["batch"])))
    return write_results(title, {**rows, "graphs": ordered}, checks_of(rows), SEEDS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batch 1, few rounds, short limits for building")
    parser.add_argument("--only", default="", help="names of graphs")
    parser.add_argument("--batches", default="", help="batches; 1,16,256,1024 by default, 1 with --quick")
    parser.add_argument("--peers", default="", help=f"among {', '.join(PEERS)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"among {', '.join(PARTS)}")
    parser.add_argument("--output", default="", help="name of the result file, for two runs at a time")
    parser.add_argument("--resume", action="store_true", help="leave out what is in the result file")
    arguments = parser.parse_args()
    if unknown := set(_names(arguments)) - set(GRAPHS):
        parser.error(f"no graph {', '.join(sorted(unknown))}; there are {', '.join(GRAPHS)}")
    return arguments


if __name__ == "__main__":
    main()
