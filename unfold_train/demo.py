"""The main job's training: super-resolution of photographs with a factored, tied, unfolded ISTA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unfoldc.export import ExportReport, export_onnx
from unfoldc.unfold_train.data.photographs import TRAINING, photograph
from unfoldc.unfold_train.data.superresolution import Array, Solve, SuperResolution
from unfoldc.unfold_train.losses import Loss
from unfoldc.unfold_train.problems import Problems
from unfoldc.unfold_train.progress import TrainingProgress
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.solvers import SynthesisFista, SynthesisIsta
from unfoldc.unfold_train.threads import torch_threads
from unfoldc.unfold_train.train import Outcome, Settings, Status, Trainer
from unfoldc.unfold_train.unfolded import Unfolded
from unfoldc.unfold_train.unfolding import unfold

ITERATIONS = 10
CONVERGED = 300
"""FISTA steps that stand for convergence: at the tuned rho the objective is then within 1e-4 of its minimum."""

RHOS = (1e-4, 2e-4, 3e-4, 6e-4, 1e-3, 2e-3, 3e-3)
"""Candidates for rho; below the first, the converged solution changes no more."""

LEARN = ("A", "B", "D", "mu", "theta")
TIED = ("A", "B", "D")

# The lower part of each training photograph is for validation alone.
_VALIDATION_PART = 0.15
_VALIDATION_PROBLEMS = 3000
# Patches of less variance are flat: every method restores them, and there are too many.
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True)
class TrainedSuperResolution:
    """The networks that the demo compares, all with K iterations but `converged`, and how they were trained.

    `network` learns A, B, D (tied) and mu, theta for each iteration, `hyper` only mu and theta; `ista` and
    `converged` are classical, with rho tuned on the training photographs. `data` describes the training data.
    """

    problem: SuperResolution
    network: Unfolded
    outcome: Outcome
    settings: Settings
    hyper: Unfolded
    hyper_outcome: Outcome
    hyper_settings: Settings
    ista: Unfolded
    converged: Unfolded
    data: dict[str, Any]


def train_superresolution(
    problem: SuperResolution | None = None,
    *,
    steps: int = 4500,
    hyper_steps: int = 600,
    budget: float = 85.0,
    hyper_budget: float = 15.0,
    seed: int = 0,
    photographs: Sequence[str] = TRAINING,
    converged: int = CONVERGED,
    folder: str | Path | None = None,
    progress: bool = True,
) -> TrainedSuperResolution:
    """Tune rho, then train the full network and the one with 2 K hyperparameters alone.

    About one minute on one core; `budget` and `hyper_budget` (s) bound the two runs on slower machines. Ctrl-C ends
    both and raises KeyboardInterrupt: half-trained networks are not worth comparing. `folder` receives the logs
    `training.jsonl` and `hyperparameters.jsonl`.
    """
    problem = SuperResolution() if problem is None else problem
    training, validation = superresolution_problems(problem, photographs, seed=seed)
    with torch_threads(1), TrainingProgress("tuning rho", 2, progress) as bar:
        rho = tune_rho(problem, SynthesisIsta, ITERATIONS, training, seed=seed)
        bar.update(1, f"{rho:g} for {ITERATIONS} iterations")
        rho_converged = tune_rho(problem, SynthesisFista, converged, training, seed=seed)
        bar.update(2, f"{rho_converged:g} for convergence")
    solver = SynthesisIsta(**operators(problem), rho=rho)
    loss = Loss("log")  # every iterate counts, so that stopping early gives an estimate too
    settings = Settings(steps, 256, 0.03, loss=loss, seed=seed, validate_every=250, budget=budget)
    hyper_settings = Settings(hyper_steps, 256, 0.05, loss=loss, seed=seed, validate_every=100, budget=hyper_budget)
    network = unfold(solver, iterations=ITERATIONS, learn=LEARN, tied=TIED)
    hyper = unfold(solver, iterations=ITERATIONS, learn=("mu", "theta"))
    logs = {n: None if folder is None else Path(folder) / f"{n}.jsonl" for n in ("training", "hyperparameters")}
    runs = []
    for net, how, title in ((network, settings, "training"), (hyper, hyper_settings, "hyperparameters")):
        runs.append(Trainer(net, training, validation, how, log=logs[title], progress=progress, title=title).run())
        if runs[-1].status is Status.INTERRUPTED:
            raise KeyboardInterrupt
    return TrainedSuperResolution(
        problem,
        network,
        runs[0],
        settings,
        hyper,
        runs[1],
        hyper_settings,
        unfold(solver, iterations=ITERATIONS),
        unfold(SynthesisFista(**operators(problem), rho=rho_converged), iterations=converged),
        {**asdict(problem), "photographs": list(photographs), "rho": rho, "rho_converged": rho_converged},
    )


def operators(problem: SuperResolution) -> dict[str, torch.Tensor]:
    """H, Psi and rows as a synthesis solver takes them."""
    arrays = {"H": problem.H, "Psi": problem.Psi, "rows": problem.rows}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def superresolution_problems(
    problem: SuperResolution, photographs: Sequence[str] = TRAINING, stride: int = 3, seed: int = 0
) -> tuple[Problems, Problems]:
    """Training and validation problems: the upper 85 % and the lower 15 % of each photograph, flat patches left out."""
    training, validation = [], []
    for name in photographs:
        picture = photograph(name)
        cut = int(len(picture) * (1 - _VALIDATION_PART)) // 2 * 2
        training.append(_textured(*problem.training_pairs(picture[:cut], stride)))
        validation.append(_textured(*problem.training_pairs(picture[cut:], stride)))
    y, truth = (np.concatenate(part) for part in zip(*validation, strict=True))
    chosen = np.random.default_rng(seed).permutation(len(y))[:_VALIDATION_PROBLEMS]
    return _problems(*(np.concatenate(part) for part in zip(*training, strict=True))), _problems(
        y[chosen], truth[chosen]
    )


def tune_rho(
    problem: SuperResolution,
    solver: type[Solver],
    iterations: int,
    training: Problems,
    *,
    count: int = 1000,
    seed: int = 0,
    candidates: Sequence[float] = RHOS,
) -> float:
    """The rho whose estimates after this many classical iterations are closest to the truth on training problems."""
    assert training.truth is not None
    which = torch.randperm(len(training.truth), generator=torch.Generator().manual_seed(seed))[:count]
    errors = {}
    for rho in candidates:
        network = unfold(solver(**operators(problem), rho=rho), iterations=iterations)
        errors[rho] = float((network(training.inputs["y"][which]) - training.truth[which]).square().mean())
    return min(errors, key=lambda rho: errors[rho])


def numpy_solve(network: Unfolded, iterations: int | None = None, batch: int = 512) -> Solve:
    """A network as a function from arrays (N, m) to arrays (N, n), as `SuperResolution.restore` takes it."""

    @torch.no_grad()
    def solve(y: Array) -> Array:
        starts = range(0, len(y), batch)
        with torch_threads(1):
            pieces = [network(torch.from_numpy(y[i : i + batch]), iterations=iterations) for i in starts]
        estimates: Array = torch.cat(pieces).numpy()
        return estimates

    return solve


def numpy_iterates(network: Unfolded, batch: int = 2048) -> Callable[[Array], list[Array]]:
    """A network as a function from arrays (N, m) to its K estimates, each (N, n)."""

    @torch.no_grad()
    def estimates(y: Array) -> list[Array]:
        with torch_threads(1):
            pieces = [network.iterates(piece) for piece in torch.split(torch.from_numpy(y), batch)]
        return [torch.cat(parts).numpy() for parts in zip(*pieces, strict=True)]

    return estimates


def export_network(trained: TrainedSuperResolution, path: str | Path) -> ExportReport:
    """Write the trained network as ONNX: input y (batch, p²), output x (batch, (2 p)²), every iterate as well."""
    example = torch.zeros(2, trained.problem.patch**2)
    return export_onnx(
        trained.network.frozen(),
        (example,),
        path,
        iterations="iteration",
        iterates=True,
        input_names=["y"],
        output_names=["x"],
    )


def _textured(y: Array, truth: Array) -> tuple[Array, Array]:
    keep = y.var(1) > _LEAST_VARIANCE
    return y[keep], truth[keep]


def _problems(y: Array, truth: Array) -> Problems:
    return Problems({"y": torch.from_numpy(np.ascontiguousarray(y))}, torch.from_numpy(np.ascontiguousarray(truth)))
