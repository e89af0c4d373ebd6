"""Checkpoints: one file with everything that a trained network is made of, readable without pickle.

The file is in the safetensors format: arrays `given.<value>`, `example.<input>` and `state.<parameter or buffer>`,
and one JSON text with the solver's name, K, what is learned and tied, and how it was trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from unfoldc.errors import InputError, ModelError, UnfoldcError
from unfoldc.unfold_train.approximating import describe_approximations, put_approximations
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.solvers import find_solver
from unfoldc.unfold_train.train import Outcome, Settings
from unfoldc.unfold_train.unfolded import Unfolded
from unfoldc.unfold_train.unfolding import unfold
from unfoldc.unfold_train.values import Input

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A network and how it came about: validation error after each iteration, log rows, settings (with the seed),
    status of the training run, and the settings of the data; empty where it was not trained."""

    network: Unfolded
    errors: tuple[float, ...] = ()
    log: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    status: str = ""


def save_checkpoint(
    path: str | Path,
    network: Unfolded,
    *,
    outcome: Outcome | None = None,
    settings: Settings | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to a file, aside first and then renamed, so that no half-written file is left.

    Raises InputError for a frozen network, which has lost what was learned and how.
    """
    path = Path(path)
    if not isinstance(network, Unfolded):
        found, allowed = f"found {type(network).__name__}", "an Unfolded network"
        raise InputError("save_checkpoint", found, allowed, "Save other modules with safetensors.torch.save_model.")
    if network.is_frozen:
        raise InputError(
            "save_checkpoint", "a frozen network", "the network that was trained", "Save it before frozen()."
        )
    solver = network.solver
    about = {
        "format": FORMAT,
        "solver": type(solver).__name__,
        "iterations": network.iterations,
        "learn": list(network.learned),
        "tied": [name for name, learned in network.learned.items() if learned.tied],
        "inputs": [name for name in solver.inputs if not isinstance(solver.values[name], Input)],
        "approximations": describe_approximations(network),
        "errors": list(network.validation_errors),
        "log": list(outcome.log) if outcome else [],
        "status": outcome.status.value if outcome else "",
        "settings": settings.to_json() if settings else {},
        "data": dict(data or {}),
        "versions": {"torch": torch.__version__},
    }
    groups = {"given": solver.given, "example": network.example, "state": network.state_dict()}
    arrays = {
        f"{group}.{name}": tensor.detach().cpu().contiguous().clone()
        for group, found in groups.items()
        for name, tensor in found.items()
    }
    content = to_bytes(arrays, {"unfoldc": json.dumps(about, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_checkpoint(
    path: str | Path,
    solvers: Iterable[type[Solver]] = (),
    approximations: Iterable[type[Approximation]] = (),
) -> Checkpoint:
    """Read a network back; `solvers` and `approximations` are classes of your own that the file may name.

    Raises ModelError where the file is missing, truncated, altered, or disagrees with the solver it names.
    """
    path = Path(path)
    arrays, about = _read(path)
    try:
        network = _rebuild(arrays, about, solvers, approximations)
    except ModelError as problem:
        raise _damaged(path, problem.found) from problem
    except UnfoldcError as problem:
        raise _damaged(path, str(problem)) from problem
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as problem:
        raise _damaged(path, f"{type(problem).__name__}: {problem}") from problem
    return Checkpoint(
        network,
        network.validation_errors,
        tuple(about["log"]),
        about["settings"],
        about["data"],
        about["status"],
    )


_TYPES: dict[str, type] = {
    "solver": str,
    "iterations": int,
    "learn": list,
    "tied": list,
    "inputs": list,
    "errors": list,
    "log": list,
    "status": str,
    "settings": dict,
    "data": dict,
}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise ModelError(f"checkpoint {path}", "no such file", "a file written by save_checkpoint", "Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("unfoldc", "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as problem:
        raise _damaged(path, str(problem)) from problem
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _damaged(path, "no description of format 1")
    for name, kind in _TYPES.items():
        if not isinstance(about.get(name), kind):
            raise _damaged(path, f"the entry {name!r} is no {kind.__name__}")
    if not isinstance(about.setdefault("approximations", []), list):
        raise _damaged(path, "the entry 'approximations' is no list")
    for name, tensor in arrays.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _damaged(path, f"{name} holds NaN or infinite numbers")
    return arrays, about


def _rebuild(
    arrays: dict[str, Tensor],
    about: dict[str, Any],
    solvers: Iterable[type[Solver]],
    approximations: Iterable[type[Approximation]],
) -> Unfolded:
    groups: dict[str, dict[str, Tensor]] = {"given": {}, "example": {}, "state": {}}
    for name, tensor in arrays.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    last = f"iteration.{about['iterations'] - 1}."
    if set(about["learn"]) - set(about["tied"]) and not any(name.startswith(last) for name in groups["state"]):
        raise ModelError("", f"{about['iterations']} iterations but no values for the last one", "", "")
    solver = find_solver(about["solver"], solvers)(**groups["given"], **{name: Input() for name in about["inputs"]})
    network = unfold(
        solver,
        iterations=about["iterations"],
        learn=about["learn"],
        tied=about["tied"],
        example=groups["example"],
    )
    put_approximations(network, about["approximations"], approximations)
    network.load_state_dict(groups["state"])
    network.validation_errors = tuple(float(e) for e in about["errors"])
    return network


def _damaged(path: Path, found: str) -> ModelError:
    return ModelError(
        f"checkpoint {path}", found, "a file written by save_checkpoint, whole and unaltered", "Train or copy it again."
    )
