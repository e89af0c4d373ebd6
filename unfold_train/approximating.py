"""`approximate`: put cheap operations in the place of exact ones, without touching the solver."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximating_modules import approximate_module
from unfoldc.unfold_train.approximations import APPROXIMATIONS
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.call_sites import Memory, Visit, recording
from unfoldc.unfold_train.placing import check_iterations, check_names, put
from unfoldc.unfold_train.unfolded import Unfolded


def approximate(
    model: nn.Module,
    operations: Mapping[str, Approximation],
    *,
    iterations: Iterable[int] | None = None,
    example_inputs: Tensor | Sequence[Tensor] | None = None,
) -> Any:
    """A copy of a model in which operations are approximated; it shares nothing with the original.

        approximate(network, {"inverse": NewtonSchulz(steps=1, warm_start=True)})
        approximate(network, {"solve": Neumann(order=2, warm_start=True, learn="scalar")}, iterations=range(1, 5))

    Args:
        model: an `Unfolded` network, or any module that calls torch.linalg.solve, inv, cholesky or svd, or functions
            such as torch.exp. Of the latter the result is an `ApproximatedModule` around the copy.
        operations: approximations by operation ("inverse", "solve", "svd", "exp", "log", "tanh", "sigmoid", "sqrt",
            "reciprocal", "block"), for all its call sites, or by the name of one site. Every iteration gets a copy of
            its own, so that each learns its own coefficients.
        iterations: those that are approximated, counted from 0; all, and the sites of `init`, by default. In a module
            the calls of a site are counted.
        example_inputs: inputs of a typical call; required for modules, the network's own example otherwise.

    What is not named stays exact, and what was approximated before stays so. Raises InputError for names that the model
    does not have, an approximation of another operation, or iterations that there are not.
    """
    if not operations:
        raise InputError("approximate", "no operation", "at least one operation or site", "Name what to approximate.")
    for name, approximation in operations.items():
        if not isinstance(approximation, Approximation):
            found = f"a {type(approximation).__name__}"
            raise InputError(f"approximate, {name}", found, "an Approximation", "Pass e.g. Neumann(order=2).")
    if isinstance(iterations, int | str):
        raise InputError("approximate(iterations=...)", repr(iterations), "a list or a range", "Write [2] for one.")
    chosen = None if iterations is None else frozenset(iterations)
    if isinstance(model, Unfolded):
        return _approximate_network(model, operations, chosen, example_inputs)
    return approximate_module(model, operations, chosen, example_inputs)


def exact(network: Unfolded) -> Unfolded:
    """A copy of a network without its approximations; its learned values stay."""
    other = copy.deepcopy(network)
    for part in (other.begin, *other.iteration):
        part.approximations = nn.ModuleDict()
    return other


def describe_approximations(network: Unfolded) -> list[dict[str, Any]]:
    """What is approximated where, as plain data: one entry for each site, approximation and set of iterations; those of
    `init` have no iterations."""
    entries: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for k, part in enumerate((network.begin, *network.iteration), -1):
        found: Any = part.approximations
        for site, a in found.items():
            entry = {"site": site, "name": type(a).__name__, "options": a.options, "iterations": []}
            known = entries.setdefault((site, repr(a), k < 0), entry)
            if k >= 0:
                known["iterations"].append(k)
    return list(entries.values())


def put_approximations(
    network: Unfolded, entries: Iterable[Mapping[str, Any]], more: Iterable[type[Approximation]] = ()
) -> None:
    """Put in place what `describe_approximations` gave; `more` are classes of your own. Raises InputError where a name
    is unknown or does not fit the network."""
    known = {**APPROXIMATIONS, **{a.__name__: a for a in more}}
    visits = {(v.site, -1 if v.begin else v.iteration): v for v in call_sites(exact(network))}
    for entry in entries:
        if entry["name"] not in known:
            raise InputError(
                "approximation", f"unknown name {entry['name']!r}", ", ".join(known), "Pass your own class."
            )
        approximation = known[entry["name"]](**entry["options"])
        for k in entry["iterations"] or [-1]:
            visit = visits.get((entry["site"], k))
            if visit is None:
                raise InputError("approximation", f"no site {entry['site']}", "the sites of the solver", "Correct it.")
            part: Any = network.begin if k < 0 else network.iteration[k]
            if visit.site in part.approximations:
                raise InputError("approximation", f"two at the site {visit.site}", "one at each", "Correct it.")
            put(part.approximations, visit.site, visit, approximation)


def call_sites(network: Unfolded, inputs: Mapping[str, Tensor] | None = None) -> list[Visit]:
    """Every call of an operation that can be approximated, in order, on these inputs or the network's example."""
    visits: list[Visit] = []
    with torch.no_grad():
        for _ in network.trajectory(
            network.example if inputs is None else inputs, memory=Memory(observer=recording(visits))
        ):
            pass
    return [v for v in visits if not v.starting and v.operation != "factor"]


def _approximate_network(
    network: Unfolded,
    operations: Mapping[str, Approximation],
    chosen: frozenset[int] | None,
    example: Tensor | Sequence[Tensor] | None,
) -> Unfolded:
    if network.is_frozen:
        raise InputError("approximate", "a frozen network", "the network it was made from", "Approximate it first.")
    if chosen is not None and not chosen <= set(range(network.iterations)):
        wrong = ", ".join(map(str, sorted(chosen - set(range(network.iterations)), key=str)[:10]))
        raise InputError(
            "approximate(iterations=...)", wrong, f"0 to {network.iterations - 1}", "Count iterations from 0."
        )
    inputs = None
    if example is not None:
        inputs = network.name_inputs(*((example,) if isinstance(example, Tensor) else example))
    other = copy.deepcopy(network)
    visits = call_sites(other, inputs)
    check_names(type(network.solver).__name__, operations, {v.site: v.operation for v in visits})
    named = {v.iteration for v in visits if not v.begin and (v.site in operations or v.operation in operations)}
    if chosen is not None and not chosen & named:
        check_iterations(chosen, named)
    for visit in visits:
        found = operations.get(visit.site, operations.get(visit.operation))
        if found is None or (chosen is not None and (visit.begin or visit.iteration not in chosen)):
            continue
        part: Any = other.begin if visit.begin else other.iteration[visit.iteration]
        put(part.approximations, visit.site, visit, found)
    _demand_changes(other)
    return other


@torch.no_grad()
def _demand_changes(network: Unfolded) -> None:
    """Raise InputError where an iteration hands on the very state that it got: it could not be exported as one."""
    used = [a for part in network.iteration for a in part.modules() if isinstance(a, Approximation)]
    if not any("block" in a.operations for a in used):
        return
    before: Any = None
    for k, (_, state) in enumerate(network.trajectory(network.example, memory=Memory(checked=False))):
        tensors = state if isinstance(state, tuple) else (state,)
        if before is not None and all(a is b for a, b in zip(tensors, before, strict=True)):
            raise InputError(
                f"approximate, iteration {k}",
                "all its blocks are skipped or reused, so that it changes nothing",
                "iterations that change the state",
                f"Leave a block of iteration {k} exact, or unfold fewer iterations.",
            )
        before = tensors
