"""What of deepinv can be unrolled: refusals that name the option to change."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import nn

from unfoldc.errors import ExportError, InputError, ToolError


def deepinv_module(name: str) -> Any:
    """A module of the installed deepinv.

    Raises:
        ToolError: deepinv cannot be imported.
    """
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:
        raise ToolError(
            "deepinv", f"import fails: {error}", "deepinv 0.5 or later", "pip install deepinv; see docs/deepinv.md."
        ) from error


def check_model(model: Any) -> None:
    """Refuse what is no unfolded model, or has no fixed number of equal steps.

    Raises:
        InputError: not an unfolded model of deepinv.
        ExportError: an option makes the computation depend on data, or forward is not deepinv's.
    """
    optim = deepinv_module("deepinv.optim").BaseOptim
    unfolded = deepinv_module("deepinv.unfolded")
    known = isinstance(model, optim)
    if not known or not (model.unfold or model.DEQ or isinstance(model, unfolded.BaseUnfold)):
        found = "built without unfold=True" if known else "not an optimisation algorithm of deepinv"
        raise InputError(
            "model",
            f"a {type(model).__name__}, {found}",
            "a deepinv.optim algorithm built with unfold=True",
            "Build it as deepinv.optim.PGD(..., unfold=True, max_iter=K), or export other modules directly.",
        )
    name = type(model).__name__
    for option, active, do in _options(model, unfolded):
        if active:
            raise ExportError(
                f"{name}({option})", "how far it runs depends on data", "K iterations that are the same for all y", do
            )
    for method in ("forward", "init_iterate_fn", "update_params_fn"):
        if getattr(type(model), method) not in (getattr(optim, method), getattr(unfolded.BaseUnfold, method)):
            raise ExportError(
                f"{name}.{method}",
                "it is not the one of deepinv.optim.BaseOptim, so its iterations are not known",
                "algorithms that inherit it",
                "Write the loop in a module of your own, with unfoldc.iterate at its end, and export that.",
            )
    loop = model.fixed_point
    if loop.max_iter < 1:
        raise ExportError(
            f"{name}(max_iter)", str(model.fixed_point.max_iter), "1 or more", "Build it with max_iter=K."
        )


def _options(model: Any, unfolded: Any) -> list[tuple[str, bool, str]]:
    """Options with whether they are on and what to do then."""
    loop = model.fixed_point
    fixed = "Build it with unfold=True, a fixed max_iter and without this option."
    stop = "Build it with early_stop=False; stop a compiled solver early with its argument `iterations`."
    return [
        ("DEQ", bool(model.DEQ) or isinstance(model, unfolded.BaseDEQ), fixed),
        ("anderson_acceleration", loop.anderson_acceleration_config is not None, fixed),
        ("backtracking", bool(model.backtracking), "Build it with backtracking=False and train the step sizes."),
        ("early_stop", bool(model.early_stop or loop.early_stop), stop),
    ]


def check_physics(physics: Any) -> None:
    """Refuse what is no forward operator on one tensor.

    Raises:
        InputError: not a physics of deepinv, or one whose measurements are a list.
    """
    module = deepinv_module("deepinv.physics")
    if not isinstance(physics, module.Physics) or isinstance(physics, module.StackedPhysics):
        raise InputError(
            "physics",
            f"a {type(physics).__name__}",
            "an instance of deepinv.physics.Physics whose measurement is one tensor",
            "Pass the physics that the model is called with, as in wrap(model, physics).",
        )


def check_parameters(physics: nn.Module, parameters: Sequence[str]) -> None:
    """Refuse names that are not buffers of the physics.

    Raises:
        InputError: an unknown or repeated name, or a text instead of a list of names.
    """
    buffers = physics.named_buffers(recurse=False)
    known = [n for n, t in buffers if not n.startswith("_") and not t.is_complex()]
    wrong = isinstance(parameters, str) or [n for n in parameters if n not in known or list(parameters).count(n) > 1]
    if wrong:
        raise InputError(
            "parameters",
            repr(parameters if isinstance(parameters, str) else list(parameters)),
            f"a list of distinct buffers of {type(physics).__name__}: {', '.join(known) or 'it has none'}",
            "Name buffers that are set, as in parameters=['mask'].",
        )
