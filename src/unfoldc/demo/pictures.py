"""Restores the test photographs with every method and compares the compiled solvers with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.runtime.solver import Solver
from unfoldc.unfold_train.data.superresolution import SuperResolution, bicubic, psnr

CROP = 128
Solve = Callable[[np.ndarray], np.ndarray]
Iterates = Callable[[np.ndarray], list[np.ndarray]]


@dataclass
class Photograph:
    """A test photograph with everything that was made of it: whole pictures, crops, figures."""

    name: str
    truth: np.ndarray
    low: np.ndarray
    box: tuple[int, int, int]
    whole: dict[str, np.ndarray] = field(default_factory=dict)
    crops: dict[str, np.ndarray] = field(default_factory=dict)
    per_iteration: dict[str, list[float]] = field(default_factory=dict)
    host_error: float = 0.0
    device_error: float = 0.0
    patches: int = 0

    def summary(self) -> dict[str, Any]:
        """Plain numbers for `summary.json`."""
        row, column, side = self.box
        true_crop = self.truth[row : row + side, column : column + side]
        return {
            "psnr": {name: psnr(picture, self.truth) for name, picture in self.whole.items()},
            "psnr_per_iteration": self.per_iteration,
            "patches": self.patches,
            "host_error": self.host_error,
            "crop": {
                "box": list(self.box),
                "psnr": {
                    name: psnr(picture, true_crop)
                    for name, picture in self.crops.items()
                    if name not in ("low", "original")
                },
                "device_error": self.device_error,
            },
        }


def busiest_crop(picture: np.ndarray, side: int = CROP, step: int = 16) -> tuple[int, int, int]:
    """(row, column, side) of the square with the most detail: the largest mean squared gradient."""
    down, right = np.diff(picture, axis=0)[:, :-1], np.diff(picture, axis=1)[:-1]
    energy = np.pad(down**2 + right**2, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    best = max(
        (energy[r + side, c + side] - energy[r, c + side] - energy[r + side, c] + energy[r, c], -r, -c)
        for r in range(0, picture.shape[0] - side, step)
        for c in range(0, picture.shape[1] - side, step)
    )
    return -int(best[1]), -int(best[2]), side


def restore_all(
    photograph: Photograph, problem: SuperResolution, methods: Mapping[str, Iterates], host: Solver
) -> None:
    """Fills in whole pictures and PSNR per iteration: a method gives its estimates after one or more iterations.

    The last estimate is the method's result; "unfolded" is solved by the compiled solver on the host.
    """
    y, means = problem.patches(photograph.low)
    photograph.whole["bicubic"] = bicubic(photograph.low)
    for name, method in {**methods, "unfolded": _compiled_iterates(host)}.items():
        pictures = [problem.assemble(estimates, means, photograph.low.shape) for estimates in method(y)]
        photograph.whole[name] = pictures[-1]
        if len(pictures) > 1:
            photograph.per_iteration[name] = [psnr(p, photograph.truth) for p in pictures]


def _compiled_iterates(solver: Solver) -> Iterates:
    name, output = solver.inputs[0].name, solver.outputs[0].name
    return lambda y: [solver.run({name: y}, iterations=k).outputs[output] for k in range(1, solver.iterations + 1)]


def compare_host(photograph: Photograph, problem: SuperResolution, host: Solver, onnx: Path) -> None:
    """The largest error of the host's answers against ONNX Runtime's, over all patches."""
    y, _ = problem.patches(photograph.low)
    photograph.patches = len(y)
    photograph.host_error = largest_error(host(y), onnx_runtime(onnx)(y))


def solve_crop(
    photograph: Photograph, problem: SuperResolution, device: Solver, onnx: Path, progress: Callable[[int], None]
) -> None:
    """Solves the crop on the device, from the low-resolution crop alone, and fills in the other methods' crops."""
    row, column, side = photograph.box
    inside = (slice(row, row + side), slice(column, column + side))
    half = (slice(row // 2, (row + side) // 2), slice(column // 2, (column + side) // 2))
    low = photograph.low[half]
    photograph.crops = {name: picture[inside] for name, picture in photograph.whole.items()}
    photograph.crops.update(low=low, original=photograph.truth[inside])
    y, means = problem.patches(low)
    answers = []
    for start in range(0, len(y), 100):
        answers.append(device(y[start : start + 100]))
        progress(start + len(answers[-1]))
    estimates = np.concatenate(answers)
    photograph.device_error = largest_error(estimates, onnx_runtime(onnx)(y))
    photograph.crops["device"] = problem.assemble(estimates, means, low.shape)


def onnx_runtime(path: Path) -> Solve:
    """ONNX Runtime on one thread, as a function of the patches."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda y: np.asarray(session.run(None, {name: y})[0])


def largest_error(answers: np.ndarray, reference: np.ndarray) -> float:
    """max over problems of ‖x - r‖ / max(‖r‖, median norm): a flat patch has hardly any norm of its own."""
    norms = np.linalg.norm(reference.astype(np.float64), axis=1)
    difference = np.linalg.norm(answers.astype(np.float64) - reference, axis=1)
    return float(np.max(difference / np.maximum(norms, np.median(norms))))
