"""The sizes in docs/boards.md: those of the result, of a solver that can be made again."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import unfoldc
from unfoldc import cli

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
boards: Any = importlib.import_module("boards")
RESULT = json.loads((ROOT / "benchmarks/results/boards.json").read_text())


def test_the_page_is_that_of_the_result() -> None:
    text = boards.PAGE.read_text(encoding="utf-8")
    assert f"{boards.BEGIN}\n{boards.docs_text(RESULT)}\n{boards.END}" in text
    shown = RESULT["rows"]["stm32f407"]
    assert f"\nflash {shown['flash_bytes']} bytes, RAM {shown['ram_bytes']} bytes, and a stack of at most " in text
    assert list(RESULT["rows"]) == list(boards.BOARDS)


@pytest.mark.slow
def test_the_command_counts_what_the_table_says_of_the_same_solver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the compiler as it is now, which need not be the one of the table."""
    model = tmp_path / "lista.onnx"
    boards.write_model(model)
    row = boards.measure(model, "stm32f407")
    assert cli.main(["profile", str(model), "--target", "stm32f407", "--backend", "c", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r["instructions"] for r in found["iterations"]] == row["instructions"]
    assert {key: found[key] for key in ("flash_bytes", "ram_bytes", "stack_bound_bytes")} == {
        key: row[key] for key in ("flash_bytes", "ram_bytes", "stack_bound_bytes")
    }
    y = unfoldc.compile(model, backend="reference").inputs[0]
    assert (y.name, y.shape, len(row["instructions"])) == ("y", (16,), 10)
