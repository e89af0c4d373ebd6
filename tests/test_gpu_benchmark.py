"""The benchmark on GPUs, as far as it goes without one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).parents[1] / "benchmarks"
Module = Callable[[str], Any]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def candidate(seconds: float, error: float = 1e-7) -> dict[str, Any]:
    return {"error": error, "time": {"median": seconds, "quartile_1": seconds, "quartile_3": seconds}}


def row(name: str, batch: int, **seconds: float) -> dict[str, Any]:
    names = {"ours": "ours, bound", "eager": "torch eager", "graph": "torch eager, CUDA graph", "jax": "jax"}
    names["compiled"] = "torch.compile, max-autotune"
    found = {names[key]: candidate(value) for key, value in seconds.items()}
    return {"graph": name, "batch": batch, "candidates": {**found, "onnxruntime": {"failed": "not there"}}}


def test_goals_are_read_from_the_rows(module: Module) -> None:
    tables = module("gpu_tables")
    many = {**row("mimo-admm", 65536, ours=1e-3, eager=9e-3, jax=2e-3), "needs": {"flops": 5e9, "bytes": 1e6}}
    rows = {
        "gpu": {"flops_per_second": 1e13, "bytes_per_second": 1e12},
        "graphs": {
            "mimo-admm@1": row("mimo-admm", 1, ours=8e-6, compiled=32e-6, graph=70e-6),
            "mimo-admm@65536": many,
            "rpca-1000@1": row("rpca-1000", 1, ours=1e-3, compiled=3e-3),
            "wmmse@1": {"graph": "wmmse", "batch": 1, "failed": "the GPU is lost"},
        },
    }
    checks = {c["name"]: (c["measured"], c["met"]) for c in tables.checks_of(rows)}
    assert checks.pop("mimo-admm@1: microseconds of a solve") == (pytest.approx(8.0), True)
    assert checks.pop("mimo-admm@1: times faster than torch.compile") == (pytest.approx(4.0), False)
    assert checks.pop("mimo-admm@65536: times the best peer") == (pytest.approx(2.0), False)
    assert checks.pop("mimo-admm@65536: share of the roofline") == (pytest.approx(0.5), True)
    assert checks.pop("rpca-1000@1: times torch.compile") == (pytest.approx(3.0), True)
    assert all(name.endswith("error of ours") and met for name, (_, met) in checks.items()) and len(checks) == 3
    text = tables.markdown({"rows": rows, "date": "2026-11-30"})
    assert "| mimo-admm | 1 | 8 |  | 70 | 32 |  |  | 4.00 |  |" in text
    assert "| mimo-admm | 65536 | 1000 | 9000 |  |  | 2000 |  | 2.00 | 50% |" in text
    assert "| wmmse | 1 |  |  |  |  |  |  |  |  |" in text
    assert tables.checks_of({}) == []


def test_times_are_taken_in_turn(module: Module) -> None:
    measure, peers = module("gpu_measure"), module("gpu_peers")
    now, order = [0.0], []

    def taking(name: str, seconds: float) -> Any:
        def run() -> None:
            now[0] += seconds
            order.append(name)

        return peers.Candidate(run, lambda: None, lambda: np.zeros(1))

    found = measure.in_turn({"a": taking("a", 1e-3), "b": taking("b", 4e-3)}, clock=lambda: now[0])
    assert found["a"]["time"]["median"] == pytest.approx(1e-3)
    assert found["b"]["latency"] == pytest.approx(4e-3)
    assert len(found["b"]["samples"]) == measure.ROUNDS
    assert order[-4:] == ["a", "b", "a", "b"]


def test_answers_are_judged_by_the_problems_at_both_ends(module: Module) -> None:
    measure = module("gpu_measure")
    chosen = measure._checked_problems(1000)
    assert len(chosen) == 256 and chosen[0] == 0 and chosen[-1] == 999
    answer = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    right = answer[chosen.numpy()].astype(np.float64)
    assert measure.error_of(answer, right, chosen, 1000) == 0
    assert measure.error_of(answer + 1e-3, right, chosen, 1000) == pytest.approx(1e-3, rel=0.1)
    answer[500] = np.nan
    assert measure.error_of(answer, right, chosen, 1000) == np.inf
    assert measure.error_of(answer[:10], right, chosen, 1000) == np.inf


def test_the_graphs_are_what_the_goals_name(module: Module) -> None:
    cases, benchmark, tables = module("gpu_cases"), module("gpu"), module("gpu_tables")
    assert set(benchmark.NAMES) == set(cases.GPU_GRAPHS) and set(tables.SMALL + tables.MANY) < set(benchmark.NAMES)
    detector = cases.GPU_GRAPHS["mimo-admm"]
    y, H = detector.example(3)
    x = detector.answer((y, H))
    step = x - 0.05 * (H.double().mT @ (H.double() @ x.unsqueeze(-1) - y.double().unsqueeze(-1))).squeeze(-1)
    assert torch.linalg.norm(x - step.clamp(-1, 1)) < 0.02 * torch.linalg.norm(x)  # nearly where the gradient is zero
    for name in ("lista-16-32-tied-k10", "wmmse", "mimo-admm"):
        graph = cases.GPU_GRAPHS[name]
        inputs = graph.example(2)
        with torch.no_grad():
            np.testing.assert_allclose(graph.module()(*inputs), graph.answer(inputs), rtol=1e-3, atol=1e-4)


def test_onnx_files_run_in_any_array_library(module: Module, tmp_path: Path) -> None:
    function_of = module("onnx_in_arrays").function_of
    weights = {
        "shape": np.array([0, -1]), "axes": np.array([1]), "two": np.array(2.0, np.float32), "last": np.array([-1]),
        "start": np.array([1]), "end": np.array([3]), "low": np.array(-0.5, np.float32), "places": np.array([2, 0]),
    }  # fmt: skip
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Transpose", ["x"], "t", {"perm": [1, 0]}), ("MatMul", ["x", "t"], "g", {}), ("Pow", ["g", "two"], "p", {}),
        ("ReduceSum", ["p", "axes"], "s", {"keepdims": 1}), ("Sqrt", ["s"], "q", {}), ("Div", ["g", "q"], "d", {}),
        ("Clip", ["d", "low"], "c", {}), ("Slice", ["c", "start", "end", "last"], "l", {}), ("Neg", ["l"], "n", {}),
        ("Concat", ["l", "n"], "k", {"axis": 1}), ("Unsqueeze", ["k", "axes"], "u", {}),
        ("Squeeze", ["u", "axes"], "v", {}), ("Reshape", ["v", "shape"], "r", {}), ("Gather", ["r", "places"], "y", {}),
    ]  # fmt: skip
    nodes = [helper.make_node(op, i, [o], **a) for op, i, o, a in steps]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    (expected,) = list(ReferenceEvaluator(model).run(None, {"x": x}))
    np.testing.assert_allclose(function_of(tmp_path / "m.onnx", np)(x), expected, rtol=1e-6)


def test_a_process_that_dies_or_hangs_costs_one_row(
    module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    benchmark = module("gpu")
    (script := tmp_path / "worker.py").write_text(
        "import json, sys, time\n"
        "for batch in map(int, sys.argv[2].split(',')):\n"
        "    if batch == 2:\n        raise SystemExit(9)\n"
        "    if batch == 3:\n        time.sleep(60)\n"
        "    lost = {'failed': 'the GPU is lost'} if batch == 4 else {}\n"
        "    print(json.dumps({'graph': sys.argv[1], 'batch': batch, **lost}), flush=True)\n"
        "    if lost:\n        raise SystemExit(3)\n"
    )
    monkeypatch.setattr(benchmark, "_WORKER", script)
    monkeypatch.setattr(benchmark, "_LONGEST", 1.5)

    def rows(batches: list[int]) -> list[dict[str, Any]]:
        return list(benchmark._heard(benchmark._start("g", batches), "g", batches, 0.0))

    assert [r["batch"] for r in rows([1, 5])] == [1, 5]
    first = rows([1, 2, 5])
    assert [r["batch"] for r in first] == [1, 2] and "the process ended (9)" in first[-1]["failed"]
    assert "nothing was heard for 2 s" in rows([3, 1])[0]["failed"]
    assert rows([4, 1]) == [{"graph": "g", "batch": 4, "failed": "the GPU is lost"}]


def test_rows_of_goals_come_first_and_are_written_as_they_come(
    module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    benchmark = module("gpu")
    order = benchmark._order(list(benchmark.NAMES), None)
    goals = [(name, list(batches)) for name, batches in benchmark.GOALS.items()]
    assert sorted(order[: len(goals)]) == sorted(goals) and sum(len(b) for _, b in order) == 4 * 6 + 1
    searches = benchmark._searches(order)
    assert len(searches) == len(set(searches)) == 4 * 6 + 1 + 8 and searches[0][2] == "max-autotune"
    (script := tmp_path / "worker.py").write_text(
        "import json, sys\n"
        "if not sys.stdin.readline():\n    raise SystemExit\n"
        "for batch in map(int, sys.argv[2].split(',')):\n"
        "    if batch == 64:\n        raise SystemExit(9)\n"
        "    print(json.dumps({'graph': sys.argv[1], 'batch': batch, 'candidates': {}, 'seconds': 1}), flush=True)\n"
    )
    written: list[int] = []
    monkeypatch.setattr(benchmark, "_WORKER", script)
    monkeypatch.setattr(benchmark, "compile_all", lambda tasks, jobs, seconds: {})
    monkeypatch.setattr(benchmark, "_needs", lambda name, batch: {})
    monkeypatch.setattr(benchmark, "write_results", lambda title, rows, *_: written.append(len(rows["graphs"])))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    rows: dict[str, Any] = {}
    names = ["lista-16-32-tied-k10", "mimo-admm"]
    benchmark._measure_all(benchmark._arguments(), names, rows, "none", time.perf_counter())
    assert written == list(range(1, 9))
    assert list(rows["graphs"])[:3] == ["lista-16-32-tied-k10@1", "mimo-admm@1", "mimo-admm@65536"]
    assert [key for key, found in rows["graphs"].items() if "failed" in found] == [f"{name}@64" for name in names]


def test_results_are_written_where_there_is_no_git(
    module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measuring = module("measuring")
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = json.loads(measuring.write_results("gpu", {}, [], {}).read_text())
    assert found["commit"] == "" and found["machine"]["cores"]


def test_the_benchmark_of_products_finds_its_parts() -> None:
    script = str(FOLDER / "gpu_products.py")
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "--dry-run" in done.stdout, done.stderr


def test_compilations_run_side_by_side_until_the_time_is_over(
    module: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compile_ = module("gpu_compile")
    (script := tmp_path / "one.py").write_text(
        "import sys, time\n"
        "sys.argv[1] == 'slow' and time.sleep(60)\n"
        "sys.argv[1] == 'bad' and sys.exit(1)\n"
        f"open({str(tmp_path)!r} + '/{{}}@{{}}.{{}}'.format(*sys.argv[1:]), 'w')\n"
    )
    monkeypatch.setattr(compile_, "FOLDER", tmp_path)
    monkeypatch.setattr(compile_, "__file__", str(script))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "")
    tasks = [("slow", 1, "m"), ("bad", 1, "m"), ("good", 1, "m"), ("good", 64, "m")]
    assert set(compile_.compile_all(tasks, 2, 4.0)) == {"good@1 m", "good@64 m"}
    assert compile_.is_compiled("good", 64, "m") and not compile_.is_compiled("bad", 1, "m")
    assert compile_.compile_all(tasks[2:], 2, 4.0) == {}


@pytest.mark.slow
def test_a_dry_run_builds_and_counts_registers(tmp_path: Path) -> None:
    name = "lista-16-32-tied-k10"
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    command = [
        sys.executable,
        str(FOLDER / "gpu.py"),
        "--dry-run",
        "--only",
        name,
        "--output",
        "gpu_dry_test",
        "--again",
    ]
    results = FOLDER / "results" / "gpu_dry_test.json"
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        built = json.loads(results.read_text())["rows"]["builds"][name]
    finally:
        results.unlink(missing_ok=True)
    assert set(built["kernels"]) == {"sm_80", "sm_90"}
    assert all(kernel["registers"] > 8 for kernels in built["kernels"].values() for kernel in kernels.values())
