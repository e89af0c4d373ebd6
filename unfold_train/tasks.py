"""Problems with a solver that the command line can train: what is solved, how, and where data comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from unfoldc.errors import InputError
from unfoldc.unfold_train.data.mimo import BOX, Uplink
from unfoldc.unfold_train.data.robust_pca import mix_factors, robust_pca_problems
from unfoldc.unfold_train.problems import Problems
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.solvers.box_admm import GramBoxAdmm
from unfoldc.unfold_train.solvers.robust_pca import RobustPcaFromFactors

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A problem: its settings (plain data), what is learned by default, the classical solver, and random problems.

    `draw(settings, count, seed)` gives problems with their truth; equal seeds give equal ones.
    """

    settings: Settings
    iterations: int
    learn: tuple[str, ...]
    solver: Callable[[Settings], Solver]
    draw: Callable[[Settings, int, int], Problems]


def _detector(settings: Settings) -> Solver:
    return GramBoxAdmm(box=BOX)


def _receptions(settings: Settings, count: int, seed: int) -> Problems:
    """Gram matrices and matched filters of random channels, with the symbols that were sent."""
    received = Uplink(settings["antennas"], settings["users"], settings["snr"]).draw(count, seed)
    return Problems({"f": received.matched_filter, "G": received.gram}, received.truth)


def _robust_pca(settings: Settings) -> Solver:
    return RobustPcaFromFactors(zeta_init=settings["zeta_init"])


def _mixtures(settings: Settings, count: int, seed: int) -> Problems:
    """Matrices with outliers, and mixed factors of the best approximation of what a threshold leaves of them."""
    rank = settings["rank"]
    drawn = robust_pca_problems(count, settings["size"], rank=rank, seed=seed, dtype=torch.float32)
    X, limit = drawn.inputs["X"], settings["zeta_init"]
    U, s, Vh = torch.linalg.svd(X.clamp(-limit, limit))
    root = s[:, None, :rank].sqrt()
    L, R = mix_factors(U[..., :rank] * root, Vh[:, :rank].mT * root, settings["condition"], seed)
    return Problems({"X": X, "L0": L, "R0": R}, drawn.truth)


TASKS: Mapping[str, Task] = {
    "detection": Task({"antennas": 128, "users": 32, "snr": 14.0}, 5, ("rho",), _detector, _receptions),
    "robust-pca": Task(
        {"size": 40, "rank": 3, "condition": 10.0, "zeta_init": 0.08}, 8, ("zeta", "eta"), _robust_pca, _mixtures
    ),
}


def problem_sets(task: Task, settings: Settings, seed: int) -> tuple[Problems, Problems, Problems]:
    """Problems to train on, to validate on, and fresh ones; no two sets share a seed."""
    sizes = (2048, 256, 512)
    first, second, third = (task.draw(settings, count, 3 * seed + i) for i, count in enumerate(sizes))
    return first, second, third


def find_task(data: Settings) -> tuple[str, Task, dict[str, Any]]:
    """The task that a checkpoint's data describes, and its settings; raises InputError where there is none."""
    name = data.get("problem")
    if name not in TASKS:
        raise InputError(
            "checkpoint",
            f"it was trained on {name or 'something else'}" if data else "it does not say what it was trained on",
            f"checkpoints of the problems {', '.join(TASKS)}",
            "Train one with `unfoldc train --problem`, or call unfold_train.compensating with your own problems.",
        )
    task = TASKS[str(name)]
    settings = {key: data.get(key, default) for key, default in task.settings.items()}
    for key, value in settings.items():
        if type(value) is not type(task.settings[key]):
            raise InputError("checkpoint", f"{key} is {value!r}", f"like {task.settings[key]!r}", "Train it again.")
    return str(name), task, settings
