"""benchmarks/mcu.py: its solvers, both programs of a tiny one on the device, what the checks see, and the tables."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unfoldc.errors import ToolError
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.targets import find_target

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

mcu: Any = importlib.import_module("mcu")
cases: Any = importlib.import_module("mcu_cases")
checks: Any = importlib.import_module("mcu_checks")
emx: Any = importlib.import_module("mcu_emx")
tables: Any = importlib.import_module("mcu_tables")


def test_there_are_ten_solvers_and_their_answers_are_numbers() -> None:
    assert len(cases.CASES) == 10 and {case.tied for case in cases.CASES.values()} == {True, False}
    for case in cases.CASES.values():
        graph = case.iterations(2).graph
        inputs = graph.example(1)
        right = cases.answers(graph, inputs)
        with torch.no_grad():
            found = graph.module()(*inputs)
        found = [t.numpy() for t in ((found,) if isinstance(found, torch.Tensor) else found)]
        assert mcu.relative_error(found, right) < 1e-4, graph.name


def test_a_filter_is_fed_with_as_many_measurements_as_it_has_iterations() -> None:
    kalman = cases.CASES["kalman"]
    assert [kalman.iterations(k).graph.example(1)[0].shape[1] for k in (1, 5, 32)] == [1, 5, 32]


def test_the_error_sees_a_wrong_answer_and_a_number_that_is_none() -> None:
    right = [np.ones(4)]
    assert mcu.relative_error([np.ones((1, 4), "float32")], right) == 0
    assert mcu.relative_error([np.array([1, 1, 1, 1.1], "float32")], right) == pytest.approx(0.05, rel=1e-3)
    assert mcu.relative_error([np.array([1, np.nan, 1, 1], "float32")], right) == float("inf")


@pytest.mark.skipif(importlib.util.find_spec("emx_onnx_cgen") is None, reason="emx-onnx-cgen is not installed")
def test_both_programs_of_a_tiny_solver_are_right_and_counted(tmp_path: Path) -> None:
    tiny = replace(cases.CASES["lista-tied"], graph=cases._lista(3, 8, True)).iterations(3)
    path = mcu.files_of(tiny, tmp_path)["ours"]
    inputs = tiny.graph.example(1, 3)
    right, data = cases.answers(tiny.graph, inputs), [t.numpy() for t in inputs]
    target = find_target("cortex-m4")
    ours = compile_onnx(path, target.spec, "c", symbol=emx.SYMBOL)
    other = emx.emx_artifact(path, ours)
    found = [mcu.figures(artifact, target, data, right) for artifact in (ours, other)]
    assert all(f["error"] < 1e-5 and f["stack_bytes"] > 0 for f in found)
    multiplications = 3 * 8 + 2 * 8 * 8
    assert all(multiplications < f["instructions"] < 40 * multiplications for f in found)
    with pytest.raises(ToolError, match="takes arrays of"):
        emx.emx_artifact(path, replace(ours, inputs=()))


def test_a_refusal_is_recorded() -> None:
    def refused() -> Any:
        raise ToolError("emx", "an operator it does not know", "others", "Leave it out.")

    assert "an operator it does not know" in mcu._attempt(refused)["failed"]


def figures(instructions: int, flash: int, error: float = 1e-6) -> dict[str, Any]:
    return {"error": error, "instructions": instructions, "flash_bytes": flash, "ram_bytes": 9, "stack_bytes": 40,
            "stack_bound_bytes": 48}  # fmt: skip


@pytest.fixture
def rows() -> dict[str, Any]:
    row = {
        "title": "LISTA", "field": "sparse recovery", "tied": True, "iterations": 16,
        "ours": {"ours": figures(100, 1000), "torch": figures(110, 1000)},
        "emx": {
            "ours": figures(300, 2000), "torch": figures(200, 9000),
            "ours, rewritten": figures(90, 2000, error=0.5), "torch, rewritten": {"failed": "refused"},
        },
        "stack": {k: figures(1, 1) for k in ("1", "32")},
    }  # fmt: skip
    return {"emx": "1.4", "cores": {"cortex-m4": {"lista": row, "other": deepcopy(row)}}}


def found(rows: dict[str, Any]) -> dict[str, tuple[float, bool]]:
    return {c["name"].removeprefix("cortex-m4: "): (c["measured"], c["met"]) for c in checks.checks_of(rows)}


def test_the_checks_say_what_is_reached(rows: dict[str, Any]) -> None:
    ratios = found(rows)
    mean, met = ratios["instructions, emx / ours, geometric mean of 2"]
    assert met and mean == pytest.approx(2.0)  # the program with the wrong answer does not count
    assert ratios["flash, ours / emx, torch.onnx.export, the largest of 2 with tied weights"][1]
    assert all(met for _, met in ratios.values())


def test_each_check_can_fail(rows: dict[str, Any]) -> None:
    row = rows["cores"]["cortex-m4"]["other"]
    row["ours"]["ours"] = figures(1000, 2001, error=1e-3)
    row["ours"]["torch"] = figures(1000, 1801)
    row["stack"]["1"]["stack_bytes"] = row["ours"]["ours"]["stack_bytes"] = 36
    failed = found(rows)
    assert not any(met for _, met in failed.values()), failed
    assert failed["solvers that take more instructions than emx's"][0] == 1


def test_the_page_shows_both_cores_and_what_was_refused(rows: dict[str, Any]) -> None:
    rows["cores"]["rv32imfc"] = rows["cores"]["cortex-m4"]
    versions = {"ziglang": "0.17", "unicorn": "2.1"}
    result = {"date": "2026-11-22", "rows": rows, "checks": checks.checks_of(rows), "versions": versions}
    text = tables.tables_text(json.loads(json.dumps(result)))
    assert "| LISTA (tied) | 100 | 200 (torch) | 2.00 | 1000 / 9000 = 0.11 | 1000 / 2000 = 0.50 | 40, 40 | 40 |" in text
    assert text.count("### ") == 2 and "- lista, torch, rewritten: refused" in text
    assert "- lista, ours, rewritten: wrong, relative error 0.5" in text
    assert "ratio 2.00" in tables.console_line("cortex-m4", "lista", rows["cores"]["cortex-m4"]["lista"])
    page = (ROOT / "docs" / "microcontrollers.md").read_text(encoding="utf-8")
    assert page.count("<!-- results -->") == page.count("<!-- /results -->") == 1
