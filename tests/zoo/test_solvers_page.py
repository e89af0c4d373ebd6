"""docs/solvers.md, as benchmarks/zoo.py makes it from its result."""

from __future__ import annotations

import importlib
import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
zoo: Any = importlib.import_module("zoo")
RESULT = json.loads((ROOT / "benchmarks/results/zoo.json").read_text())


def test_the_page_is_that_of_the_result() -> None:
    assert (ROOT / "docs/solvers.md").read_text(encoding="utf-8") == zoo.docs_text(RESULT)


def test_what_is_wrong_in_several_places_is_said_once() -> None:
    result = deepcopy(RESULT)
    kalman = result["rows"]["kalman"]
    for backend in ("c", "numba", "tvm"):
        kalman["backends"][backend] = {"right": False, "problem": "ModelError: a long text"}
    kalman["device"] = {"right": False, "error": 0.5}
    text = zoo.docs_text(result)
    assert text.count("a long text") == 1
    assert text.endswith("\n- `kalman`, c, numba, tvm: ModelError: a long text\n- `kalman`, cortex-m4: error 0.5\n")
    row = next(line for line in text.splitlines() if line.startswith("| `kalman` |"))
    assert "(see below)" in row
