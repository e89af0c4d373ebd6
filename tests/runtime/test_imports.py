"""What loading the runtime costs: a small board installs NumPy and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from unfoldc.runtime.solver import Solver

HEAVY = ["elftools", "matplotlib", "numba", "onnx", "onnxruntime", "torch", "tvm", "unicorn", "ziglang"]


def _loaded(code: str, *arguments: str) -> list[str]:
    check = f"{code}\nimport sys\nprint([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[str] = eval(done.stdout)
    return found


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert _loaded("import unfoldc.runtime") == []


def test_loading_and_calling_a_saved_solver_loads_nothing_heavy(solver: Solver, lista: Any, tmp_path: Path) -> None:
    folder = solver.save(tmp_path / "build")
    code = (
        "import sys, unfoldc; s = unfoldc.load(sys.argv[1]); s([[1, 2, 3, 4, 5]]); s.run({'y': [[1, 2, 3, 4, 5]]}, 2)"
    )
    assert _loaded(f"{code}; s.profile({{'y': [[1, 2, 3, 4, 5]]}}, repeats=2)", str(folder)) == []
