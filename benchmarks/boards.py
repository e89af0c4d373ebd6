"""Compiles one small solver for a row of boards, and says what it takes there: the sizes in docs/boards.md.

    .venv/bin/python benchmarks/boards.py           measure; writes benchmarks/results/boards.json
    .venv/bin/python benchmarks/boards.py --docs    write the sizes into docs/boards.md from that file
    .venv/bin/python benchmarks/boards.py --model lista.onnx    write the solver alone, to compile it yourself

All figures are counted or read from the firmware: equal versions of unfoldc and zig give equal figures on any computer
that has QEMU's qemu-system-arm, for the Cortex-M55.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import RESULTS, write_results
from torch import Tensor, nn

import unfoldc
from unfoldc.runtime.contest import random_inputs
from unfoldc.targets import find_target

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "boards.md"
BEGIN, END = "<!-- sizes -->", "<!-- /sizes -->"
M, N, K, SEED = 16, 64, 10, 1
NO_FPU = " (no floating-point unit)"
BOARDS = {
    "rp2040": NO_FPU,
    "esp32-c3": NO_FPU,
    "stm32f407": "",
    "rp2350": "",
    "stm32h743": "",
    "cortex-m55": " (Helium)",
    "raspberry-pi-4": "",
}
SHOWN = "stm32f407"  # the board of the page's example


class Ista(nn.Module):
    """x <- soft(x - mu_k A^T (A x - y), theta_k), y (batch, 16), x (batch, 64), K = 10."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(SEED)
        a = rng.standard_normal((M, N)) / np.sqrt(M)
        self.A = nn.Parameter(torch.tensor(a, dtype=torch.float32))
        self.mu = nn.Parameter(torch.tensor(rng.uniform(0.1, 0.2, K), dtype=torch.float32))
        self.theta = nn.Parameter(torch.tensor(rng.uniform(0.01, 0.05, K), dtype=torch.float32))

    def forward(self, y: Tensor) -> Tensor:
        """The estimate after K iterations."""
        x = y.new_zeros(y.shape[0], N)
        for k in range(K):
            z = x - self.mu[k] * ((x @ self.A.T - y) @ self.A)
            x = torch.sign(z) * torch.relu(torch.abs(z) - self.theta[k])
            x = unfoldc.iterate(x)
        return x


def write_model(path: Path) -> None:
    """Export the solver."""
    unfoldc.export_onnx(Ista(), torch.zeros(2, M), path)


def measure(model: Path, target: str) -> dict[str, Any]:
    """Bytes, and instructions of each iteration for one random problem."""
    solver = unfoldc.compile(model, target, "c", cache=False)
    y = random_inputs(solver.artifact, 1)[0]  # as `unfoldc profile` without inputs
    profile = solver.profile({"y": y}, repeats=1)
    return {
        "flash_bytes": solver.flash_bytes,
        "ram_bytes": solver.ram_bytes,
        "stack_bound_bytes": solver.stack_bound_bytes,
        "instructions": [row.instructions for row in profile.iterations],
    }


def docs_text(result: dict[str, Any]) -> str:
    """The section of the page."""
    linux = [name for name in result["rows"] if _runs_linux(name)]
    lines = [
        f"ISTA with {M} measurements and {N} unknowns, x ← soft(x − μ Aᵀ(A x − y), θ), a random matrix, μ and θ for "
        f"each iteration,\nK = {K}, compiled by zig {result['versions']['ziglang']} on {result['date']}:",
        "",
        "    .venv/bin/python benchmarks/boards.py --model lista.onnx     # the solver, in which every number is fixed",
        f"    .venv/bin/unfoldc profile lista.onnx --target {SHOWN} --backend c",
        "",
        "`benchmarks/boards.py` measures all rows anew, `--docs` puts them here. Equal versions give equal figures: "
        "nothing is timed,\nand where instructions depend on the data, the problem is the one that `profile` takes.",
        "",
        "| board | flash | RAM | stack | instructions of an iteration |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        low, high = min(row["instructions"]), max(row["instructions"])
        count = f"{low}" if low == high else f"{low} to {high}"
        sizes = " | ".join(str(row[key]) for key in ("flash_bytes", "ram_bytes", "stack_bound_bytes"))
        lines.append(f"| {name}{BOARDS[name]} | {sizes} | {count} |")
    if linux:
        lines += ["", f"On {' and '.join(linux)} there is no flash: the figure is that of code and constants."]
    return "\n".join(lines)


def _runs_linux(name: str) -> bool:
    core = find_target(name).core
    return core is not None and bool(core.linux)


def write_docs() -> Path:
    """Write the section, and the sizes in the page's example."""
    result = json.loads((RESULTS / "boards.json").read_text())
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    shown = result["rows"][SHOWN]
    sizes = f"flash {shown['flash_bytes']} bytes, RAM {shown['ram_bytes']} bytes, and a stack of at most"
    before, count = re.subn(
        r"flash \d+ bytes, RAM \d+ bytes, and a stack of at most \d+", f"{sizes} {shown['stack_bound_bytes']}", before
    )
    assert count == 1
    PAGE.write_text(f"{before}{BEGIN}\n{docs_text(result)}\n{END}{after}", encoding="utf-8")
    return PAGE


def main() -> None:
    """Measure, or write the page or the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write docs/boards.md and measure nothing")
    parser.add_argument("--model", metavar="FILE", help="write the solver as an ONNX file and measure nothing")
    arguments = parser.parse_args()
    if arguments.model:
        write_model(Path(arguments.model))
        return
    if arguments.docs:
        print(f"written to {write_docs()}")
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "lista.onnx"
        write_model(model)
        for name in BOARDS:
            print(f"measuring {name}", flush=True)
            rows[name] = measure(model, name)
    print(f"written to {write_results('boards', rows, [], {'weights': SEED})}")


if __name__ == "__main__":
    main()
