"""Writes measured figures from benchmarks/results into the documentation, between markers, and draws the plot.

    .venv/bin/python benchmarks/write_docs.py

README.md takes demo.json; docs/approximations.md and docs/approximations.svg take approximations.json;
docs/performance.md and docs/performance.svg take speed.json and passes.json, where there is a speed.json, and gpu.json,
where there is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import draw_speed
import gpu_tables
import speed_tables
from approximation_tables import tables_text
from draw_approximations import draw

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results -->", "<!-- /results -->"
_NO_GPU = """\
Not measured: no GPU was at hand yet, so none of these goals is known to be met: 15 µs for ten iterations of a solver
with fewer than 64 variables, five times faster than torch.compile; three times the throughput of the best peer and 40 %
of the roofline for 65,536 small problems; torch.compile's time for LISTA 250 → 500 at batch 4096, and half of it for
robust PCA 1000 × 1000. `benchmarks/gpu.py` measures them in 8 minutes on a machine that has one, and
`benchmarks/write_docs.py` puts its table here. What is known without:
[registers, spills and memory traffic](gpu_kernels.md)."""


def results_text(result: dict[str, Any]) -> str:
    """The section as Markdown."""
    rows = result["rows"]
    lines = [
        "## Measured",
        "",
        f"By `benchmarks/demo.py` on {result['date']}, {result['machine']['processor']}, {result['machine']['cores']} "
        f"cores, one thread, ONNX Runtime {result['versions']['onnxruntime']}.",
        "",
        "| PSNR in dB | bicubic | ISTA, 10 iterations | ISTA, converged | unfolded, 20 numbers | unfolded |",
        "|---|---|---|---|---|---|",
    ]
    for name, photograph in rows["quality"].items():
        psnr = photograph["psnr"]
        values = [psnr[key] for key in ("bicubic", "ista", "converged", "hyperparameters", "unfolded")]
        lines.append(f"| {name} | " + " | ".join(f"{v:.2f}" for v in values) + " |")
    lines += [
        "",
        "| one problem, K = 10, called from Python | ONNX Runtime | `c` | `numba` | times faster (`c`) |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows["speed"].items():
        times = " | ".join(f"{row['seconds'][b]['median'] * 1e6:.1f} µs" for b in ("onnxruntime", "c", "numba"))
        lines.append(f"| {name} | {times} | {row['ratio']['c']['median']:.1f} |")
    photograph = rows["photograph"]
    times = " | ".join(f"{photograph['seconds'][b]['median'] * 1e3:.1f} ms" for b in ("onnxruntime", "c", "numba"))
    ratio = photograph["ratio"]["c"]["median"]
    lines.append(f"| a photograph, {photograph['patches']} problems in one batch | {times} | {ratio:.1f} |")
    small, large = (rows["size"][k] for k in ("8", "32"))
    lines += [
        "",
        f"On the stm32f407 the same solver takes {small['flash_bytes']} bytes of flash and {small['ram_bytes']} bytes "
        f"of RAM at K = 8, {large['flash_bytes']} and {large['ram_bytes']} at K = 32.",
        f"A warm cache compiles in {rows['warm']['c']['warm_seconds'] * 1e3:.0f} ms (`c`); a time stamp inside the "
        f"program costs {rows['stamps']['stamp_seconds'] * 1e9:.0f} ns.",
    ]
    missed = [c for c in result["checks"] if not c["met"]]
    lines += ["", f"Goals met: {len(result['checks']) - len(missed)} of {len(result['checks'])}."]
    lines += [f"Not met: {c['name']}: {c['measured']:.3g}, goal {c['goal']}." for c in missed]
    return "\n".join(lines)


def gpu_text(results: Path) -> str:
    """The section on GPUs as Markdown, which says so where nothing was measured."""
    if not (results / "gpu.json").is_file():
        return f"\n\n## On a GPU\n\n{_NO_GPU}"
    found = json.loads((results / "gpu.json").read_text())
    missed = [f"Not met: {c['name']}: {c['measured']:.3g}, goal {c['goal']}." for c in found["checks"] if not c["met"]]
    return "\n\n".join(["", "## On a GPU", gpu_tables.markdown(found), *missed])


def replace_section(path: Path, section: str) -> None:
    """Put the section between the markers, both of which the file must hold."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{section}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Writes all sections and the plots."""
    results = ROOT / "benchmarks/results"
    replace_section(ROOT / "README.md", results_text(json.loads((results / "demo.json").read_text())))
    found = json.loads((results / "approximations.json").read_text())
    replace_section(ROOT / "docs/approximations.md", tables_text(found))
    draw(found["rows"]["error_and_cost"]["rows"], ROOT / "docs/approximations.svg")
    if (results / "speed.json").is_file():
        speed = json.loads((results / "speed.json").read_text())
        passes = json.loads((results / "passes.json").read_text())
        section = f"{speed_tables.tables_text(speed)}\n\n## What each transformation gains\n\n"
        replace_section(ROOT / "docs/performance.md", section + speed_tables.passes_text(passes) + gpu_text(results))
        if speed["rows"].get("scaling"):
            draw_speed.draw(speed["rows"]["scaling"], ROOT / "docs/performance.svg")


if __name__ == "__main__":
    main()
