"""Put approximations at call sites, after a look whether they fit."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

from torch import nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.call_sites import Visit


def put(sites: nn.ModuleDict, name: str, visit: Visit, approximation: Approximation) -> None:
    """Put a copy of an approximation at a call site."""
    if visit.operation not in approximation.operations:
        raise InputError(
            f"approximate, site {visit.site}",
            f"{approximation!r}, which replaces {', '.join(approximation.operations)}",
            f"an approximation of {visit.operation}",
            "Choose another one, or name the sites that it is for.",
        )
    if "." in name or hasattr(nn.ModuleDict(), name):
        raise InputError(
            f"approximate, site {visit.site!r}",
            "a name that torch.nn.ModuleDict uses itself, or one with a dot",
            "another name",
            "Rename the site in the solver.",
        )
    own = copy.deepcopy(approximation)
    own.prepare(*visit.arguments)
    sites[name] = own


def check_iterations(chosen: frozenset[int] | None, called: Collection[int]) -> None:
    """Raise InputError where an iteration (of a module, a call) is chosen in which nothing that is named is called."""
    if chosen is None or (chosen and chosen <= set(called)):
        return
    wrong = ", ".join(map(str, sorted(chosen - set(called), key=str))) or "none"
    allowed = ", ".join(map(str, sorted(called)))
    raise InputError(
        "approximate(iterations=...)", wrong, f"those that call what is approximated: {allowed}", "Count from 0."
    )


def check_names(owner: str, operations: Mapping[str, Approximation], sites: Mapping[str, str]) -> None:
    """Raise InputError where a name is neither an operation nor a call site of the model."""
    unknown = set(operations) - set(sites) - set(sites.values())
    if unknown:
        listed = ", ".join(f"{site} ({operation})" for site, operation in sites.items()) or "none"
        raise InputError(
            f"approximate({owner})",
            f"it has no operation or call site {', '.join(sorted(unknown))}",
            f"its call sites: {listed}",
            "Correct the name; v.solve, v.exp, ... are seen in a solver, torch.linalg.solve, torch.exp, ... elsewhere.",
        )
