"""The demo from training to the report, step by step."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import unfoldc
from unfoldc.demo.pictures import Iterates, Photograph, busiest_crop, compare_host, restore_all, solve_crop
from unfoldc.demo.report import write_report, write_strip
from unfoldc.runtime.profile import Profile, duration
from unfoldc.runtime.solver import Solver
from unfoldc.unfold_train.checkpoint import save_checkpoint
from unfoldc.unfold_train.data.photographs import TEST, TRAINING, photograph
from unfoldc.unfold_train.data.superresolution import Solve, SuperResolution
from unfoldc.unfold_train.demo import (
    TrainedSuperResolution,
    export_network,
    numpy_iterates,
    numpy_solve,
    train_superresolution,
)
from unfoldc.unfold_train.progress import TrainingProgress
from unfoldc.unfold_train.train import Outcome
from unfoldc.unfold_train.unfolded import Unfolded

BOARD = "stm32f407"
STEPS, HYPER_STEPS = 4500, 600


def run(
    folder: Path | str,
    *,
    steps: int = STEPS,
    hyper_steps: int = HYPER_STEPS,
    training: Sequence[str] = TRAINING,
    test: Sequence[str] = TEST,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains, exports, compiles for the host and a board, solves the test photographs, writes the report.

    The folder receives solver.onnx, the checkpoints, host/ (C sources and library), stm32f407/ (a project
    with firmware), summary.json, crops.png and report.html. `training` and `test` name photographs. Returns the
    summary.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    trained = train_superresolution(
        steps=steps, hyper_steps=hyper_steps, photographs=training, folder=folder, progress=progress
    )
    _save(trained, folder)
    onnx = folder / "solver.onnx"
    with _step("export to ONNX", progress):
        export_network(trained, onnx)
    with _step("compile for this computer", progress):
        host = unfoldc.compile(onnx)
        host.save(folder / "host")
    with _step(f"compile for {BOARD}", progress):
        device = unfoldc.compile(onnx, target=BOARD)
        device.save(folder / BOARD)
    pictures = _solve_photographs(trained, test, host, device, onnx, progress)
    with _step("profile", progress):
        y, _ = trained.problem.patches(pictures[0].low)
        one = {host.inputs[0].name: y[:1]}
        profiles = host.profile(one, repeats=2000), device.profile({device.inputs[0].name: y[:1]})
    summary = _summary(trained, pictures, *profiles)
    with _step("write the report", progress):
        _write(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        write_report(
            folder / "report.html",
            summary,
            {p.name: p.crops for p in pictures},
            {p.name: p.whole["unfolded"] for p in pictures},
        )
        write_strip(folder / "crops.png", summary, {p.name: p.crops for p in pictures})
    if progress:
        _conclude(summary, folder, time.monotonic() - started)
    return summary


def _save(trained: TrainedSuperResolution, folder: Path) -> None:
    runs = (
        ("unfolded", trained.network, trained.outcome, trained.settings),
        ("hyperparameters", trained.hyper, trained.hyper_outcome, trained.hyper_settings),
    )
    for name, network, outcome, settings in runs:
        save_checkpoint(folder / f"{name}.safetensors", network, outcome=outcome, settings=settings, data=trained.data)


def _solve_photographs(
    trained: TrainedSuperResolution, test: Sequence[str], host: Solver, device: Solver, onnx: Path, progress: bool
) -> list[Photograph]:
    problem = trained.problem
    methods = {
        "ista": numpy_iterates(trained.ista),
        "hyperparameters": numpy_iterates(trained.hyper),
        "converged": _last(numpy_solve(trained.converged)),
    }
    pictures = []
    for file in test:
        name = Path(file).stem
        truth = problem.crop(photograph(file))
        picture = Photograph(name, truth, problem.degrade(truth), busiest_crop(truth))
        with _step(f"restore {name} by every method", progress):
            restore_all(picture, problem, methods, host)
            compare_host(picture, problem, host, onnx)
        title, count = f"{name}: crop on the emulated {BOARD}", _patch_count(problem, picture)
        with TrainingProgress(title, count, progress, unit="patches") as bar:
            solve_crop(picture, problem, device, onnx, bar.update)
        pictures.append(picture)
    return pictures


def _patch_count(problem: SuperResolution, picture: Photograph) -> int:
    side = picture.box[2] // 2
    return len(problem.patches(np.zeros((side, side), np.float32))[0])


def _last(solve: Solve) -> Iterates:
    return lambda y: [solve(y)]


def _summary(
    trained: TrainedSuperResolution, pictures: list[Photograph], host: Profile, device: Profile
) -> dict[str, Any]:
    photographs = {p.name: p.summary() for p in pictures}
    problem = trained.problem

    def gain(other: str) -> float:
        return statistics.fmean(float(p["psnr"]["unfolded"] - p["psnr"][other]) for p in photographs.values())

    middle = statistics.median(row.seconds_p50 or 0.0 for row in host.iterations)
    return {
        "version": unfoldc.__version__,
        "machine": f"{platform.machine()} with {platform.system()}",
        "iterations": trained.network.iterations,
        "problem": {**trained.data, **asdict(problem), "atoms": int(problem.Psi.shape[1])},
        "training": {
            "unfolded": _training(trained.network, trained.outcome),
            "hyperparameters": _training(trained.hyper, trained.hyper_outcome),
        },
        "gains": {other: gain(other) for other in ("bicubic", "ista", "converged")},
        "photographs": photographs,
        "host": {**host.to_dict(), "iteration_seconds": middle},
        "device": device.to_dict(),
    }


def _training(network: Unfolded, outcome: Outcome) -> dict[str, Any]:
    return {
        "learned_numbers": network.learned_numbers,
        "seconds": outcome.seconds,
        "steps": outcome.steps,
        "status": outcome.status.value,
        "validation_errors": list(outcome.errors),
    }


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


@contextmanager
def _step(title: str, shown: bool) -> Iterator[None]:
    """Says what is going on, and how long it took."""
    start = time.monotonic()
    if shown:
        print(f"{title} ...", end=" ", flush=True)
    yield
    if shown:
        print(f"{time.monotonic() - start:.1f} s", flush=True)


def _conclude(summary: dict[str, Any], folder: Path, seconds: float) -> None:
    print()
    print(f"{'PSNR in dB':<12}{'bicubic':>10}{'ISTA-10':>10}{'converged':>11}{'20 numbers':>12}{'unfolded':>10}")
    for name, p in summary["photographs"].items():
        d = p["psnr"]
        print(
            f"{name:<12}{d['bicubic']:>10.2f}{d['ista']:>10.2f}{d['converged']:>11.2f}{d['hyperparameters']:>12.2f}{d['unfolded']:>10.2f}"
        )
    host, device = summary["host"], summary["device"]
    print(f"host: {host['seconds_p50'] * 1e6:.1f} us a patch, {host['iteration_seconds'] * 1e6:.2f} us an iteration")
    print(
        f"{device['target']}: {device['iterations'][0]['instructions']} instructions an iteration, "
        f"{duration(device['estimated_seconds'])} a patch (estimated), "
        f"flash {device['flash_bytes']} bytes, RAM {device['ram_bytes']} bytes, stack {device['stack_bytes']} bytes"
    )
    print(f"report: {folder / 'report.html'} (everything took {seconds:.0f} s)")
