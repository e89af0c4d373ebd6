"""benchmarks/speed.py: its graphs, its peers on a tiny graph, the limit, and the tables made from a result."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unfoldc
from unfoldc.kernels.pipeline import load_program

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

cases: Any = importlib.import_module("speed_cases")
checks: Any = importlib.import_module("speed_checks")
drawing: Any = importlib.import_module("draw_speed")
files: Any = importlib.import_module("speed_files")
limit: Any = importlib.import_module("speed_limit")
measure: Any = importlib.import_module("speed_measure")
peers: Any = importlib.import_module("speed_peers")
measuring: Any = importlib.import_module("measuring")
speed: Any = importlib.import_module("speed")
tables: Any = importlib.import_module("speed_tables")

TINY = "lista-3-5-tied-k2"
SMALL = [name for name in cases.GRAPHS if name not in ("rpca-1000", "lista-250-500-tied", "lista-250-500-untied")]
ONE_OF_A_KIND = ("lista-8-16-untied", "wmmse", "rpca-100")


def relative_error(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - right) / np.linalg.norm(right))


def test_there_are_at_least_sixteen_graphs_with_names_that_are_found() -> None:
    assert len(cases.GRAPHS) >= 16
    assert all(cases.find_graph(name).name == name for name in (*cases.GRAPHS, TINY))


@pytest.mark.parametrize("name", SMALL)
def test_a_graph_is_the_same_in_every_process_and_right_in_float32(name: str) -> None:
    graph = cases.GRAPHS[name]
    inputs = graph.example(2)
    with torch.no_grad():
        found, again = (graph.module(2)(*inputs) for _ in range(2))
    right = replace(graph, iterations=2).answer(inputs)
    assert torch.equal(found, again) and bool(torch.isfinite(found).all()) and float(found.abs().max()) > 1e-3
    assert right.dtype == torch.float64 and relative_error(found.numpy(), right.numpy()) < graph.tolerance


def test_the_plain_form_of_a_graph_computes_the_same() -> None:
    graph = cases.GRAPHS["rpca-100"]
    inputs = graph.example(2)
    with torch.no_grad():
        found = graph.module(plain=True)(*inputs)
    assert relative_error(found.numpy(), graph.answer(inputs).numpy()) < 1e-6


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_a_graph_is_exported_and_compiled_right(name: str, tmp_path: Path) -> None:
    graph = replace(cases.GRAPHS[name], iterations=2)
    path = tmp_path / "model.onnx"
    unfoldc.export_onnx(graph.module(), graph.example(3), path, iterations="iteration", check=False)
    inputs = graph.example(2, seed=3)
    solver = unfoldc.compile(path, backend="reference")
    assert solver.iterations == 2
    right = graph.answer(inputs).numpy()
    assert relative_error(solver(*(t.numpy() for t in inputs)), right) < graph.tolerance


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The task of a tiny graph at batch 3, with files in a folder of the test's own."""
    before, files.FOLDER = files.FOLDER, tmp_path_factory.mktemp("speed")
    found, missing = files.files_of(TINY, 3)
    files.FOLDER = before
    assert not missing and {"dynamic", "ours", "plain", "folded", "folded-plain", "single"} <= found.keys()
    return replace(measure.make_task(TINY, 3, found, True), folder=tmp_path_factory.mktemp("peer"))


SLOW = ("numba", "tvm", "tvm-relax", "iree", "torch.compile")
ALL = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in (*peers.OURS, *peers.PEERS)]


@pytest.fixture
def floating_point_mode() -> Iterator[None]:
    """Left as it was: libraries that gcc links with -ffast-math make the process flush small numbers to zero."""
    name = ctypes.util.find_library("m")
    if name is None:
        yield
        return
    libm, before = ctypes.CDLL(name), ctypes.create_string_buffer(256)
    libm.fegetenv(before)
    yield
    libm.fesetenv(before)


@pytest.mark.usefixtures("floating_point_mode")
@pytest.mark.parametrize("name", ALL)
def test_a_peer_that_is_installed_is_right(name: str, tiny: Any) -> None:
    if not peers.installed(name):
        pytest.skip(f"{name} is not installed")
    variants = peers.variants(name, tiny)
    assert variants
    for variant, make in list(variants.items())[:2]:
        built = make()
        built.run()
        assert tiny.error(built.answer()) < tiny.tolerance, variant


def test_a_wrong_answer_and_a_number_that_is_none_are_seen(tiny: Any) -> None:
    right = tiny.expected.astype(np.float32)
    assert tiny.error(right) < 1e-6 < 1e-3 < tiny.error(1.01 * right)
    right[0, 0] = np.nan
    assert tiny.error(right) == float("inf")
    with pytest.raises(ValueError, match="shape"):
        tiny.error(right[:1])


def test_a_peer_that_fails_or_dies_is_recorded(tiny: Any) -> None:
    workers = measure.Workers(0)
    peers.PEERS["no-such-peer"] = ("no_such_module", "numpy")
    try:
        found = (
            measure.build(workers, ["no-such-peer"], tiny, 5.0)
            if peers.PEERS.update({"no-such-peer": ("no_such_module", "numpy")}) is None
            else {}
        )
        assert "failed" in found["no-such-peer"][""]
        process = workers._running["no-such-peer"][0]
        process.kill()
        process.join()
        rows: dict[str, Any] = {}
        assert measure._receive(workers, "no-such-peer", rows, 5.0) == "crashed"
        assert workers.stop("no-such-peer") == "the process ended with signal 9"
    finally:
        del peers.PEERS["no-such-peer"]
        workers.close()


def test_the_limit_counts_products_and_takes_the_smallest_level_that_holds_all(tiny: Any) -> None:
    _, program = load_program(tiny.files["dynamic"])
    need = limit.needs(program, 1)
    m, n, k = 3, 5, 2
    assert 2 * (n * n * (k - 1) + m * n) <= need["operations"] <= 2 * (n * n + m * n) * k + 10 * n * k
    assert need["bytes"] <= 4 * k * (n * n + m * n + 4 * n) + 4 * (m + n) + 64
    assert limit.needs(program, 10)["operations"] == 10 * need["operations"]
    machine = limit.Machine(1e9, (("L1", 1e3, 1e9), ("L2", 1e5, 1e8), ("memory", float("inf"), 1e7)))
    small = {"operations": 1e3, "bytes": 1e2, "working_set": 900.0}
    assert limit.limit_seconds(machine, small) == (1e-6, "arithmetic")
    assert limit.limit_seconds(machine, {**small, "bytes": 1e4, "working_set": 5e4}) == (1e-4, "L2")
    assert limit.limit_seconds(machine, {**small, "bytes": 1e4, "working_set": 5e6}) == (1e-3, "memory")
    mirrored = {"mirrored": 4e3, "mirrored_set": 450}
    assert limit.limit_seconds(machine, {**small, "bytes": 1e4, "working_set": 500, **mirrored}) == (1e-5, "L1")
    assert limit.limit_seconds(machine, {**small, "bytes": 1e4, "working_set": 5e4, **mirrored}) == (6e-5, "L2")
    assert limit.limit_seconds(machine, {**small, "bytes": 1e4, "working_set": 1400, **mirrored}) == (6e-6, "L1")


def row(graph: str, batch: int, ours: float, peer: float, runtime: float) -> dict[str, Any]:
    timed = {
        "c|bound": {"median": ours},
        "emx|folded, gcc": {"median": peer},
        "onnxruntime|plain, run": {"median": runtime},
    }
    ratio = {"median": peer / ours, "quartile_1": 0.9 * peer / ours, "quartile_3": 1.1 * peer / ours}
    return {
        "graph": graph, "batch": batch, "timed": timed, "ratio": ratio,
        "ours": "c|bound", "best_peer": "emx|folded, gcc",
        "ratios": {"emx": peer / ours, "onnxruntime": runtime / ours}, "limit": {"seconds": ours / 2, "by": "L1"},
        "peers": {"c": {}, "emx": {}, "iree": {"failed": "RuntimeError: refused"}},
    }  # fmt: skip


def test_what_was_measured_is_kept_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def measured(workers: Any, name: str, batch: int, *rest: Any) -> dict[str, Any]:
        asked.append((name, batch))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return row(name, batch, 0.02 * batch, 0.04 * batch, 0.08 * batch)

    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    monkeypatch.setattr(speed, "measured", measured)
    arguments = ["speed.py", "--only", "mpc,fista", "--batches", "1,16,1024", "--resume"]
    monkeypatch.setattr(sys, "argv", arguments)
    kept: dict[str, Any] = {}
    with pytest.raises(KeyboardInterrupt):
        speed._graphs(speed._arguments(), kept, None, None, "speed")
    assert asked == [("mpc", 1), ("mpc", 16), ("fista", 1), ("fista", 16)]
    before = speed._before("speed")
    assert list(before["graphs"]) == ["fista@1", "mpc@1", "mpc@16", "mpc@1024"]  # in the order of the graphs
    assert "20.5 s" in before["graphs"]["mpc@1024"]["left_out"]
    speed._graphs(speed._arguments(), before, None, None, "speed")
    assert asked[4:] == [("fista", 16)]
    assert len(speed._before("speed")["graphs"]) == 6


@pytest.fixture
def result() -> dict[str, Any]:
    graphs = [row("mpc", 1, 1e-6, 4e-6, 2e-5), row("fista", 1, 2e-6, 2e-6, 1e-5), row("mpc", 256, 2e-4, 1e-4, 3e-4)]
    left_out = {"graph": "rpca-1000", "batch": 1024, "left_out": "a call takes about 30.0 s"}
    point = {"seconds": {"ours": 1e-6, "emx": 2e-6}, "limit": 5e-7, "limit_by": "L1"}
    rows = {
        "graphs": {f"{r['graph']}@{r['batch']}": r for r in (*graphs, left_out)},
        "compile": {"mpc": {"cold_seconds": 0.5, "warm_seconds": 0.2}},
        "machine": {"core": 1, "peak": 1e11, "levels": [["L1", 48e3, 3e11]]},
        "versions": {"emx": "1.4.0"},
        "scaling": {"K": {"1": point, "2": point, "4": {"failed": "refused"}}},
    }
    machine = {"processor": "a processor", "cores": 2}
    return {"date": "2026-11-22", "machine": machine, "rows": rows, "checks": checks.checks_of(rows)}


def test_the_checks_say_what_is_reached(result: dict[str, Any]) -> None:
    found = {c["name"]: (round(c["measured"], 6), c["met"]) for c in result["checks"]}
    assert found["batch 1: geometric mean of best peer / ours, 2 graphs"] == (2.0, True)
    assert found["batch 1: graphs slower than the best peer"] == (0, True)
    assert found["batch 256: graphs slower than the best peer"] == (1, False)
    assert found["batch 1, mpc: times faster than ONNX Runtime"] == (20.0, True)
    assert found["batch 1, fista: times faster than ONNX Runtime"] == (5.0, False)
    assert found["batch 1, mpc: share of the limit, within L2"] == (0.5, False)
    assert found["compile mpc at K = 32: seconds, warm"] == (0.2, False)


def test_the_page_shows_every_row_what_failed_and_what_was_left_out(result: dict[str, Any], tmp_path: Path) -> None:
    result = json.loads(json.dumps(result))  # as it is read from the file
    text = tables.tables_text(result)
    assert "| MPC by box-ADMM, 8→40 | 32 | 1 (`c`) | 4 (emx) | 4.00 (3.60 to 4.40) | 20.0 | 0.5 (L1) | 0.50 |" in text
    assert (
        "a call takes about 30.0 s" in text
        and "- iree, mpc at 1, fista at 1, mpc at 256: RuntimeError: refused" in text
    )
    assert "Not met: batch 256: graphs slower than the best peer: 1, goal <= 0." in text
    for name in ("a.svg", "b.svg"):
        drawing.draw(result["rows"]["scaling"], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert drawing.curves(result["rows"]["scaling"]["K"])["ours"] == [(1, 1.0), (2, 1.0)]


def test_back_ends_stand_beside_each_other() -> None:
    found = {
        "mpc@1": {"c": 1e-6, "numba": 2e-6, "tvm": 1.1e-6},
        "mpc@64": {"c": 5e-5, "numba": 4e-5, "tvm": 5e-5},
        "fista@1": {"failed": "refused"},
    }
    (check,) = checks.checks_of({"backends": found})
    assert check["name"] == "tvm beside the best of ours, 2 cases, worst: mpc@64"
    assert (round(check["measured"], 6), check["met"]) == (1.25, False)
    lines = tables._backend_table(found)
    assert "| MPC by box-ADMM, 8→40 | 1 | 1 | 2 | 1.1 | 1.10 |" in lines and lines[-1].endswith("| refused |")


@pytest.mark.slow
def test_back_ends_are_timed_where_they_are_right() -> None:
    found: dict[str, Any] = {}
    lines = list(speed.measure_backends(found, max(os.sched_getaffinity(0)), ["lista-8-16-untied"], True, False))
    assert len(lines) == 1 and set(found["lista-8-16-untied@1"]) == {n for n in peers.OURS if peers.installed(n)}


def test_the_page_in_the_documentation_has_its_place_for_the_tables() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.count("<!-- results -->") == page.count("<!-- /results -->") == 1
