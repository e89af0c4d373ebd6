"""Measures what the demo promises: quality, agreement, speed beside ONNX Runtime, code size, warm compile, stamps.

    .venv/bin/python benchmarks/demo.py [--quick] [--only quality,speed,photograph,size,warm,stamps]

Writes benchmarks/results/demo.json. Quality figures come from build/demo/summary.json; the demo is run if it is absent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import check, interleaved, print_checks, ratios, write_results

import unfoldc
from unfoldc.demo.pictures import largest_error, onnx_runtime
from unfoldc.unfold_train.checkpoint import load_checkpoint
from unfoldc.unfold_train.data.photographs import photograph
from unfoldc.unfold_train.data.superresolution import SuperResolution
from unfoldc.unfold_train.solvers import Lista, SynthesisIsta

SEED = 7
DEMO = Path("build/demo")
Rows = dict[str, Any]
Checks = list[dict[str, Any]]


def random_model(folder: Path, kind: str, atoms: int, tied: bool, iterations: int = 10) -> Path:
    """A solver with random weights of the trained kind: `factored` (A, B) or `dense` (W1, W2), as ONNX."""
    generator = torch.Generator().manual_seed(SEED)
    A = torch.randn(25, atoms, generator=generator) / 5
    if kind == "factored":
        Psi = torch.randn(100, atoms, generator=generator) / 10
        H = torch.randn(25, 100, generator=generator) / 10
        names, matrices = ["A", "B", "mu", "theta"], ["A", "B"]
        solver: Any = SynthesisIsta(H=H, Psi=Psi, rho=0.01)
    else:
        names, matrices = ["W1", "W2", "theta"], ["W1", "W2"]
        solver = Lista(A=A, rho=0.01)
    network = unfoldc.unfold(solver, iterations=iterations, learn=names, tied=matrices if tied else False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.01 * torch.randn(parameter.shape, generator=generator))
    path = folder / f"{kind}-{atoms}-{'tied' if tied else 'untied'}-{iterations}.onnx"
    unfoldc.export_onnx(network, (torch.randn(2, 25, generator=generator),), path, iterations="iteration")
    return path


def demo_model(folder: Path) -> Path:
    """The demo's trained solver without the outputs of every iterate, which would cost ONNX Runtime time."""
    network = load_checkpoint(DEMO / "unfolded.safetensors").network.frozen()
    path = folder / "demo.onnx"
    unfoldc.export_onnx(network, (torch.zeros(2, 25),), path, iterations="iteration", input_names=["y"])
    return path


def run_demo_once() -> None:
    """Runs the demo where its results are missing."""
    if not (DEMO / "summary.json").is_file():
        from unfoldc.demo import run

        run(DEMO)


def measure_quality(rows: Rows, checks: Checks) -> None:
    """The demo's figures on each photograph."""
    run_demo_once()
    summary = json.loads((DEMO / "summary.json").read_text())
    rows["quality"] = summary["photographs"]
    rows["training"] = summary["training"]
    for name, p in summary["photographs"].items():
        best = p["psnr"]["unfolded"]
        for other, goal in (("bicubic", 1.5), ("ista", 0.6), ("converged", 0.25)):
            checks.append(check(f"{name}: dB above {other}", best - p["psnr"][other], goal, True))
        checks.append(check(f"{name}: host against ONNX Runtime, every patch", p["host_error"], 1e-5, False))
        checks.append(check(f"{name}: Cortex-M4 against ONNX Runtime, crop", p["crop"]["device_error"], 1e-4, False))
    checks.append(check("seconds of training, all values", summary["training"]["unfolded"]["seconds"], 90, False))


def beside_onnx_runtime(path: Path, y: np.ndarray, rounds: int, backends: tuple[str, ...]) -> Rows:
    """`solver(y)` and ONNX Runtime in turn on the same file, one thread; answers are compared first."""
    reference = onnx_runtime(path)
    calls: dict[str, Callable[[], Any]] = {"onnxruntime": lambda: reference(y)}
    errors = {}
    for backend in backends:
        solver = unfoldc.compile(path, backend=backend)
        errors[backend] = largest_error(solver(y), reference(y))
        if errors[backend] > 1e-5:
            raise SystemExit(f"{path.name}: {backend} differs from ONNX Runtime by {errors[backend]:.2g}")
        calls[backend] = lambda solver=solver: solver(y)  # type: ignore[misc]
    timed = interleaved(calls, rounds)
    result: Rows = {"errors": errors, "ratio": {b: ratios(timed, "onnxruntime", b) for b in backends}}
    result["seconds"] = {name: {k: v for k, v in t.items() if k != "samples"} for name, t in timed.items()}
    return result


def measure_speed(rows: Rows, checks: Checks, quick: bool) -> None:
    """One patch at batch 1."""
    run_demo_once()
    rounds = 5 if quick else 40
    y = np.random.default_rng(SEED).standard_normal((1, 25)).astype(np.float32)
    rows["speed"] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [("the demo's solver, tied", demo_model(folder), 5.0)]
        for kind, atoms, tied in (
            ("factored", 143, True), ("dense", 64, True), ("dense", 128, True),
            ("factored", 64, False), ("factored", 128, False), ("dense", 64, False), ("dense", 128, False),
        ):  # fmt: skip
            title = f"{kind}, {atoms} atoms, {'tied' if tied else 'untied'}"
            models.append((title, random_model(folder, kind, atoms, tied), 5.0 if tied else 3.0))
        for title, path, goal in models:
            found = rows["speed"][title] = beside_onnx_runtime(path, y, rounds, ("c", "numba"))
            checks.append(
                check(f"one patch, {title}: times faster than ONNX Runtime", found["ratio"]["c"]["median"], goal, True)
            )


def measure_photograph(rows: Rows, checks: Checks, quick: bool) -> None:
    """All patches of a photograph in one batch."""
    problem = SuperResolution()
    y, _ = problem.patches(problem.degrade(problem.crop(photograph("camera.png"))))
    rows["photograph"] = {"patches": len(y)}
    with tempfile.TemporaryDirectory() as name:
        path = random_model(Path(name), "factored", 143, True)
        found = beside_onnx_runtime(path, y, 5 if quick else 25, ("c", "numba"))
        rows["photograph"].update(found)
        checks.append(
            check("a photograph in one batch: times faster than ONNX Runtime", found["ratio"]["c"]["median"], 1.0, True)
        )


def measure_size(rows: Rows, checks: Checks) -> None:
    """Flash and RAM at K = 8 and K = 32 with tied weights."""
    sizes = {}
    with tempfile.TemporaryDirectory() as name:
        for iterations in (8, 32):
            path = random_model(Path(name), "factored", 143, True, iterations)
            solver = unfoldc.compile(path, target="stm32f407")
            sizes[iterations] = {"flash_bytes": solver.flash_bytes, "ram_bytes": solver.ram_bytes}
    rows["size"] = sizes
    flash, ram = ([sizes[k][f"{kind}_bytes"] or 0 for k in (8, 32)] for kind in ("flash", "ram"))
    checks.append(check("flash at K = 32 over flash at K = 8", flash[1] / flash[0], 1.02, False))
    checks.append(check("RAM at K = 32 less RAM at K = 8, bytes", ram[1] - ram[0], 0, False))


_WARM = """
import sys, time
import numpy, unfoldc, unfoldc.pipeline, unfoldc.runtime.solver
from unfoldc.runtime import backends
if sys.argv[2] == "numba": import numba
if sys.argv[2] == "tvm": import tvm
start = time.perf_counter()
solver = unfoldc.compile(sys.argv[1], backend=sys.argv[2])
compiled = time.perf_counter()
solver(numpy.zeros((1, 25), numpy.float32))
print(compiled - start, time.perf_counter() - start)
"""


def measure_warm(rows: Rows, checks: Checks, quick: bool) -> None:
    """Compile in a fresh process with a warm cache, imports excluded; also up to the first answer."""
    rows["warm"] = {}
    with tempfile.TemporaryDirectory() as name:
        path = random_model(Path(name), "factored", 143, True)
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(name) / "cache")}
        for backend in ("c", "numba", "tvm"):
            times = []
            for _ in range(2 if quick else 6):
                done = subprocess.run(
                    [sys.executable, "-c", _WARM, str(path), backend],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                times.append([float(t) for t in done.stdout.split()])
            cold, *warm = times
            compiled, answered = (float(np.median(part)) for part in zip(*warm, strict=True))
            rows["warm"][backend] = {
                "cold_seconds": cold[0],
                "warm_seconds": compiled,
                "warm_to_first_answer": answered,
            }
            checks.append(check(f"warm compile, {backend}: seconds", compiled, 0.1, False))


def measure_stamps(rows: Rows, checks: Checks) -> None:
    """Cost of the stamps where an iteration takes 1 us or more."""
    with tempfile.TemporaryDirectory() as name:
        path = random_model(Path(name), "dense", 256, True)
        solver = unfoldc.compile(path)
        y = np.random.default_rng(SEED).standard_normal((1, 25)).astype(np.float32)
        profile = solver.profile({solver.inputs[0].name: y}, repeats=3000)
    iteration = float(np.median([row.seconds_p50 or 0.0 for row in profile.iterations]))
    rows["stamps"] = {
        "iteration_seconds": iteration,
        "stamp_seconds": profile.stamp_seconds,
        "overhead": profile.stamp_overhead,
    }
    checks.append(check("an iteration in the stamp test: seconds", iteration, 1e-6, True))
    checks.append(check("share of the time that the stamps add", profile.stamp_overhead or 0.0, 0.03, False))


def main() -> None:
    """Runs the parts that were asked for and prints the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--only", default="quality,speed,photograph,size,warm,stamps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: Rows = {}
    checks: Checks = []
    parts: dict[str, Callable[[], None]] = {
        "quality": lambda: measure_quality(rows, checks),
        "speed": lambda: measure_speed(rows, checks, arguments.quick),
        "photograph": lambda: measure_photograph(rows, checks, arguments.quick),
        "size": lambda: measure_size(rows, checks),
        "warm": lambda: measure_warm(rows, checks, arguments.quick),
        "stamps": lambda: measure_stamps(rows, checks),
    }
    for name in arguments.only.split(","):
        print(f"measuring {name}", flush=True)
        parts[name]()
    path = write_results("demo", rows, checks, {"models and inputs": SEED})
    print_checks(checks)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
