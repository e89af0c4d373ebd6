"""The benchmark on GPUs where a part of it fails: the others are measured all the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).parents[1] / "benchmarks"
Module = Callable[[str], Any]
NAMES = ["lista-16-32-tied-k10", "mimo-admm"]
WORKER = """
import json, os, sys, time
told = json.loads(sys.stdin.readline())
open(sys.argv[0] + ".log", "a").write(json.dumps([sys.argv[1:], told["without"]]) + "\\n")
def say(**row):
    print(json.dumps(row), flush=True)
for batch in map(int, sys.argv[2].split(",")):
    say(doing="ours, bound", batch=batch)
    if batch == 4096:
        os.abort()
    print("a line of some library's")
    facts = {"ours, bound": {"error": 0.0}}
    say(graph=sys.argv[1], batch=batch, candidates=facts, partial=True)
    say(doing="jax", batch=batch)
    if "jax" not in told["without"]:
        os.abort()
    say(graph=sys.argv[1], batch=batch, candidates=facts | {"jax": {"failed": "left out"}}, seconds=1)
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def benchmark(module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    found = module("gpu")
    (script := tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(found, "_WORKER", script)
    monkeypatch.setattr(found, "compile_all", lambda tasks, jobs, seconds: {})
    monkeypatch.setattr(found, "_needs", missing)
    return found


def missing(*_: Any) -> Any:
    raise KeyError("missing")


def told(benchmark: Any) -> list[Any]:
    """Arguments of each process, and what it is to do without."""
    return [json.loads(line) for line in Path(f"{benchmark._WORKER}.log").read_text().splitlines()]


def measured(benchmark: Any, monkeypatch: pytest.MonkeyPatch, *options: str, begun: float = 0.0) -> dict[str, Any]:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(benchmark, "write_results", lambda title, rows, *_: written.append(dict(rows["graphs"])))
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    arguments = benchmark._arguments()
    rows: dict[str, Any] = {"graphs": dict(BEFORE)} if arguments.resume else {}
    benchmark._measure_all(arguments, arguments.only or NAMES, rows, "none", time.perf_counter() - begun)
    if written:
        assert written[-1] == rows["graphs"]
    return dict(rows["graphs"])


BEFORE = {
    f"{NAMES[0]}@1": {"graph": NAMES[0], "batch": 1, "candidates": {}, "seconds": 7},
    f"{NAMES[0]}@64": {
        "graph": NAMES[0],
        "batch": 64,
        "candidates": {},
        "failed": "the process ended",
        "partial": True,
    },
}


def test_what_ends_a_process_is_left_out_and_the_row_made_without_it(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = measured(benchmark, monkeypatch, "--batches", "1,64")
    assert list(rows) == [f"{name}@{batch}" for batch in (1, 64) for name in NAMES]
    assert all(row["candidates"]["jax"]["failed"] == "left out" and "failed" not in row for row in rows.values())
    assert [without for _, without in told(benchmark)] == [[], *[["jax"]] * 4]  # the first row is tried twice
    assert {row["needs"]["problem"] for row in rows.values()} == {"KeyError: 'missing'"}


def test_ours_that_ends_a_process_costs_one_row(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(benchmark, monkeypatch, "--only", NAMES[0], "--batches", "4096,64")
    assert "the process ended (-6)" in rows[f"{NAMES[0]}@4096"]["failed"]
    assert rows[f"{NAMES[0]}@64"]["seconds"] == 1


def test_rows_that_are_whole_are_kept_by_resume(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(benchmark, monkeypatch, "--resume", "--only", NAMES[0], "--batches", "1,64")
    assert [row["seconds"] for row in rows.values()] == [7, 1]
    assert {arguments[1] for arguments, _ in told(benchmark)} == {"64"}


def test_nothing_is_begun_after_the_time(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(benchmark, monkeypatch, "--seconds", "5", "--batches", "1,7", begun=6.0)
    assert {row["failed"] for row in rows.values()} == {"no time was left"}
    assert list(rows) == [f"{name}@{batch}" for batch in (1, 7) for name in NAMES]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "lista"], "lista: choose some of lista-16-32"),
        (["--batches", "1,many"], "1,many: choose numbers of problems"),
        (["--batches", "0"], "0: choose numbers"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    benchmark: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    with pytest.raises(SystemExit):
        benchmark._arguments()
    assert message in capsys.readouterr().err


def test_a_missing_gpu_is_one_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run([sys.executable, str(FOLDER / "gpu.py")], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("gpu.py: PyTorch ") and "finds no GPU; --dry-run does what takes none" in done.stderr
    assert len(done.stderr.splitlines()) == 1


class Solver:
    """Ours, by PyTorch; a profile fails."""

    inputs = (SimpleNamespace(name="y"),)

    def __init__(self, graph: Any) -> None:
        self.module = graph.module()

    def __call__(self, *inputs: Any) -> Any:
        with torch.no_grad():
            return self.module(*inputs)

    def bind(self, inputs: Any) -> Any:
        return lambda: self(*inputs)

    def profile(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no profile today")


@pytest.fixture
def on_processor(module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The measurement of one row without a GPU: what PyTorch does with one is done without, graphs of it fail."""
    found = module("gpu_measure")
    for kind in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(kind, "cuda", lambda self: self)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    (plain := tmp_path / "plain.onnx").write_text("no model")
    monkeypatch.setattr(found, "plain_file", lambda name: plain)
    monkeypatch.setattr(found, "MODES", ("max-autotune", "reduce-overhead"))
    monkeypatch.setattr(found, "is_compiled", lambda *_: False)
    monkeypatch.setattr(found, "why_not_compiled", lambda name, batch, mode: "no Triton" if mode[0] == "m" else "")
    monkeypatch.setattr(found, "compiled", missing)
    monkeypatch.setattr(found, "SLICE", 1e-4)
    monkeypatch.setattr(found, "LATENCIES", 3)
    return found


def test_each_peer_may_fail(on_processor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    graph = on_processor.GPU_GRAPHS[NAMES[0]]
    row = on_processor.measured(NAMES[0], 2, Solver(graph), 100.0, ["torch eager, CUDA graph"])
    timed = {name for name, facts in row["candidates"].items() if "time" in facts}
    assert timed == {"ours, bound", "ours, call", "torch eager"}
    said = {name: facts["failed"] for name, facts in row["candidates"].items() if "failed" in facts}
    assert "left out, since a process ended with it before" in said["torch eager, CUDA graph"]
    assert said["torch.compile, max-autotune"] == "no Triton"
    assert said["torch.compile, reduce-overhead"] == "KeyError: 'missing'"
    assert {"ours, CUDA graph", "jax", "onnxruntime"} < set(said)
    assert row["profile"] == {"failed": "RuntimeError: no profile today"}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (partial,) = (line for line in lines if "partial" in line)
    assert {name for name, facts in partial["candidates"].items() if "time" in facts} == timed
    assert [line["doing"] for line in lines if "doing" in line][-1] == "times"


def test_a_lost_gpu_ends_the_process(on_processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def crash(*_: Any) -> None:
        monkeypatch.setattr(torch.cuda, "synchronize", lost)
        raise RuntimeError("jax has written beyond its arrays")

    monkeypatch.setattr(on_processor, "jax_candidate", crash)
    graph = on_processor.GPU_GRAPHS[NAMES[0]]
    with pytest.raises(on_processor.Lost, match="jax: RuntimeError: jax has written beyond"):
        on_processor.measured(NAMES[0], 2, Solver(graph), 100.0)


def test_processes_run_side_by_side_and_late_ones_are_ended(module: Module, tmp_path: Path) -> None:
    processes, log = module("gpu_processes"), tmp_path / "log"
    commands = {
        "good": "echo fine",
        "bad": "echo one; echo two >&2; exit 1",
        "silent": "exit 4",
        "slow": f"(while true; do echo x >> {log}; sleep 0.05; done) & wait",
        "never": "",
    }
    shells = {key: ["sh", "-c", command] for key, command in commands.items()}
    found = {key: problem for key, problem, _ in processes.side_by_side(shells, 1, 2.0)}
    late = processes.LATE
    silent = "it ended with status 4, without a word"
    assert found == {"good": "", "bad": "two", "silent": silent, "slow": late, "never": late}
    size = log.stat().st_size
    time.sleep(0.5)
    assert log.stat().st_size == size > 0  # what a late one has started is ended, too


def test_what_cannot_be_built_is_taken_as_it_is(
    module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    builds = module("gpu_builds")
    monkeypatch.setattr(builds, "FOLDER", tmp_path)
    monkeypatch.setattr(builds, "side_by_side", lambda commands, *_: [(name, "no compiler", 1.0) for name in commands])
    (folder := tmp_path / "brought" / "solver").mkdir(parents=True)
    (folder.parent / "build.json").write_text(json.dumps({"sources": "others", "note": ""}))
    (folder / "solver_report.json").write_text(json.dumps({"architectures": {"sm_90": {"kernels": {"solve_one": {}}}}}))
    (folder / "solver_launch.json").write_text(json.dumps({"forms": []}))
    found = builds.build_all(["brought", "lacking"], False, 1, True)
    assert found["brought"]["note"] == "made before; not again: no compiler"
    assert found["brought"]["kernels"] == {"sm_90": {"solve_one": {}}} and "failed" not in found["brought"]
    assert found["lacking"] == {"failed": "no compiler"}
    builds._write("brought", {"note": "", "plain": "made"})
    assert builds.build_all(["brought"], False, 1, True)["brought"]["note"] == ""
