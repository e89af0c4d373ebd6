"""`unfold`: from a classical solver to a network whose named values are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.graph import INPUT, ITERATION, merge_reads, roots
from unfoldc.unfold_train.holder import Iteration
from unfoldc.unfold_train.inputs import bind_inputs, example_inputs
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.unfolded import Learned, Unfolded, network_class
from unfoldc.unfold_train.values import Recorder

MOST_ITERATIONS = 10_000


def unfold(
    solver: Solver,
    *,
    iterations: int,
    learn: Sequence[str] = (),
    tied: bool | Sequence[str] = False,
    example: Mapping[str, Tensor] | None = None,
) -> Unfolded:
    """A network of K iterations that starts as the classical solver itself.

    `learn` names the values to learn; all their classical values are computed before the first is replaced by a
    parameter. `tied` says which of them are one for all iterations: all (True), none (False) or those named. `example`
    gives inputs of typical calls where sizes or classical values cannot be known without them.

        unfold(Ista(A=A, rho=0.1), iterations=10, learn=["mu", "theta"])                           # hyperparameters
        unfold(Lista(A=A, rho=0.1), iterations=10, learn=["W1", "W2", "theta"], tied=["W1", "W2"])  # LISTA
        unfold(Ista(A=A, rho=0.1), iterations=10, learn=["B", "theta"])                            # LISTA-CP

    Raises InputError for an unknown name, a value that cannot be learned, or a classical value that is not finite.
    """
    owner = type(solver).__name__
    if not 1 <= iterations <= MOST_ITERATIONS:
        raise InputError(f"unfold({owner})", f"iterations={iterations}", f"1 to {MOST_ITERATIONS}", "Change it.")
    names = _names(solver, learn)
    tied_names = set(names) if tied is True else set() if tied is False else set(tied)
    if tied_names - set(names):
        missing = ", ".join(sorted(tied_names - set(names)))
        raise InputError(
            f"unfold({owner}, tied=...)", f"{missing} is not learned", ", ".join(names), "Add it to learn."
        )
    example_types = {t.dtype for t in (example or {}).values()}
    if len(example_types) == 1 and not solver.has_arrays:
        solver = solver.with_type(example_types.pop())
    network = network_class(solver.inputs)(solver, iterations, example_inputs(solver, solver.sizes, example or {}))
    starts = _classical_values(network, names, set(solver.inputs) - set(example or {}), tied_names)
    for name, values in starts.items():
        network.sizes.bind(name, solver.values[name].dims, tuple(values[0].shape))
        positive = solver.values[name].positive
        network.learned[name] = Learned(tuple(values[0].shape), name in tied_names, positive)
        if name in tied_names:
            network.shared.learn(name, values[0], positive)
            continue
        for holder, start in zip(network.iteration, values, strict=True):
            assert isinstance(holder, Iteration)
            holder.learn(name, start, positive)
    network.fold_constants()
    return network


def _names(solver: Solver, learn: Sequence[str]) -> tuple[str, ...]:
    owner = type(solver).__name__
    learnable = [n for n, v in solver.values.items() if not v.integer and n not in solver.inputs]
    if isinstance(learn, str) or len(set(learn)) != len(learn):
        raise InputError(f"unfold({owner}, learn=...)", repr(learn), "a list of different names", "Correct the list.")
    for name in learn:
        if name not in learnable:
            why = "an unknown value"
            if name in solver.values:
                why = "an input of each call" if name in solver.inputs else "an index"
            raise InputError(
                f"unfold({owner}, learn=...)", f"{name} is {why}", ", ".join(learnable), "Correct the list."
            )
    return tuple(learn)


@torch.no_grad()
def _classical_values(
    network: Unfolded, names: Sequence[str], invented: set[str], tied: set[str]
) -> dict[str, list[Tensor]]:
    """For each name its classical value at every iteration, all read before anything is learned."""
    solver = network.solver
    owner = type(solver).__name__
    bound = bind_inputs(solver, network.sizes, network.example)
    cut = {**dict.fromkeys(solver.given, frozenset[str]()), **dict.fromkeys(solver.inputs, frozenset({INPUT}))}
    reads: dict[str, set[str]] = {}
    starts: dict[str, list[Tensor]] = {name: [] for name in names}
    for k in range(network.iterations):
        recorder = Recorder(solver, lambda name, k: bound.get(name, solver.given.get(name)), k)
        for name in names:
            if k > 0 and ITERATION not in roots(name, reads, cut):
                starts[name].append(starts[name][0])
                continue
            starts[name].append(getattr(recorder, name).detach())
            _check_start(solver, name, starts[name][-1])
        merge_reads(reads, recorder.reads())
    for name in names:
        where = f"unfold({owner}, learn=[{name!r}])"
        if name in tied and ITERATION in roots(name, reads, cut):
            raise InputError(where, "its classical value changes with the iteration", "untied", f"Do not tie {name}.")
        used = _inputs_read(name, reads, solver) & invented
        if used:
            raise InputError(
                where,
                f"its classical value depends on the input {', '.join(sorted(used))}",
                "a given value or an example of the input",
                f"Write {owner}({name}=...) or unfold(..., example={{{sorted(used)[0]!r}: ...}}).",
            )
    return starts


def _inputs_read(name: str, reads: Mapping[str, set[str]], solver: Solver) -> set[str]:
    cut = {n: frozenset({n}) for n in solver.inputs}
    return set(roots(name, reads, {**dict.fromkeys(solver.given, frozenset[str]()), **cut})) - {ITERATION}


def _check_start(solver: Solver, name: str, start: Tensor) -> None:
    where = f"{type(solver).__name__}.{name}"
    if not bool(torch.isfinite(start).all()):
        raise InputError(
            where, "its classical value is NaN or infinite", "finite numbers", "Correct what it is made of."
        )
    if solver.values[name].positive and not bool((start > 0).all()):
        raise InputError(where, f"its classical value is {float(start.min()):g}", "above zero", f"Give {name} > 0.")
