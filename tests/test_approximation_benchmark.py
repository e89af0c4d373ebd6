"""benchmarks/approximations.py at its quick sizes, the page that is made from it, and the code on that page."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

benchmark: Any = importlib.import_module("approximations")
measuring: Any = importlib.import_module("measuring")
tables: Any = importlib.import_module("approximation_tables")
drawing: Any = importlib.import_module("draw_approximations")

PAGE = (ROOT / "docs" / "approximations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c != "robust_pca")) for c in benchmark.CASES]
)
def test_every_check_of_a_quick_run_is_met(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    rows, checks = benchmark.measure_all([case], quick=True)
    assert not rows[case]["failed"]
    assert checks and all(c["met"] for c in checks), [c for c in checks if not c["met"]]
    path = measuring.write_results("approximations", rows, checks, benchmark.SEEDS)
    written = json.loads(path.read_text(), parse_constant=pytest.fail)  # neither NaN nor Infinity
    assert {"date", "commit", "machine", "versions", "seeds"} <= set(written)
    assert written["rows"][case]["rows"] and {c["case"] for c in written["checks"]} == {case}
    assert tables.tables_text(written).count("\n| ") > 2
    if case == "error_and_cost":
        texts = []
        for name in ("a.svg", "b.svg"):
            drawing.draw(written["rows"][case]["rows"], tmp_path / name)
            texts.append((tmp_path / name).read_text())
        assert texts[0] == texts[1] and "<svg" in texts[0]


def break_case(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    """Let the case robust_pca end with a problem and linear_solves measure nothing."""

    def run(quick: bool) -> Any:
        raise problem

    check = measuring.check("something", 1.0, 0.0, True)
    monkeypatch.setattr(importlib.import_module("approximation_cases.robust_pca"), "run", run)
    monkeypatch.setattr(
        importlib.import_module("approximation_cases.linear_solves"), "run", lambda quick: ([], [check])
    )


def test_a_case_that_raises_is_recorded_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    break_case(monkeypatch, ValueError("broken on purpose"))
    rows, checks = benchmark.measure_all(["robust_pca", "linear_solves"], quick=True)
    assert rows["robust_pca"]["failed"] == "ValueError: broken on purpose" and not rows["linear_solves"]["failed"]
    assert [(c["case"], c["met"]) for c in checks] == [("robust_pca", False), ("linear_solves", True)]


def test_an_interrupt_keeps_what_is_done_and_other_cases_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    break_case(monkeypatch, KeyboardInterrupt())
    rows, checks = benchmark.measure_all(["linear_solves", "robust_pca", "detection"], quick=True)
    assert list(rows) == ["linear_solves"] and len(checks) == 1
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    earlier = {"detection": {"rows": [], "failed": ""}}
    measuring.write_results("approximations", earlier, [{**checks[0], "case": "detection"}], {})
    rows, checks = benchmark.merged("approximations", rows, checks)
    assert list(rows) == ["linear_solves", "detection"]
    assert [c["case"] for c in checks] == ["linear_solves", "detection"]


def test_the_page_holds_the_measured_figures() -> None:
    result = json.loads((ROOT / "benchmarks/results/approximations.json").read_text())
    begin, end = "<!-- results -->\n", "\n<!-- /results -->"
    assert PAGE[PAGE.index(begin) + len(begin) : PAGE.index(end)] == tables.tables_text(result)


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_code_on_the_page_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    code = blocks[number].replace("steps=300", "steps=12").replace("problems(2000,", "problems(200,")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"docs/approximations.md, block {number + 1}", "exec"), {"__name__": "page"})
    assert list(tmp_path.glob("*.onnx"))


@pytest.mark.slow
def test_the_example_of_any_module_ends_closer_than_untrained_exact() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/approximate_any_module.py"], capture_output=True, text=True, check=True
    )
    exact, cheap = re.findall(r"error ([.\d]+), trained ([.\d]+); ([\d,]+) instructions", done.stdout)
    assert float(cheap[1]) < float(exact[0]) < float(cheap[0])
    assert int(cheap[2].replace(",", "")) < int(exact[2].replace(",", "")) / 3
