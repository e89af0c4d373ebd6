"""The network made of K iterations of a solver."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.call_sites import CallSites, Memory
from unfoldc.unfold_train.graph import INPUT, ITERATION, LEARNED, merge_reads, needed, roots
from unfoldc.unfold_train.holder import Begin, End, Holder, Iteration
from unfoldc.unfold_train.inputs import bind_inputs
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.values import Lookup, Recorder, View


@dataclass(frozen=True)
class Learned:
    """How a value is learned: one for all iterations (tied) or one for each, and its shape."""

    shape: tuple[int, ...]
    tied: bool
    positive: bool


class Unfolded(nn.Module):
    """K iterations of a solver as a network; made by `unfold`.

    `network(y)` with y of shape (batch, m) returns the estimate (batch, n) after K iterations,
    `network(y, iterations=k)` the one after k. Inputs are given in the order of `network.inputs`, or by name.
    Learned values are parameters: `shared.A` or `shared.log_mu` where tied, `iteration.3.log_theta` where not.

    Raises InputError where an input does not fit.
    """

    def __init__(self, solver: Solver, iterations: int, example: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.solver = solver
        self.example = dict(example)
        self.learned: dict[str, Learned] = {}
        self.shared = Holder()
        self.begin = Begin(solver)
        self.iteration = nn.ModuleList(Iteration(solver) for _ in range(iterations))
        self.end = End(solver)
        self.sizes = solver.sizes.copy()
        self.reads: dict[str, set[str]] = {}
        self.shared_values: frozenset[str] = frozenset()
        self.is_frozen = False
        self.validation_errors: tuple[float, ...] = ()

    @property
    def iterations(self) -> int:
        """K."""
        return len(self.iteration)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of a call, in order."""
        return self.solver.inputs

    @property
    def learned_numbers(self) -> int:
        """How many numbers are learned, those of approximations included."""
        own = sum(math.prod(s.shape) * (1 if s.tied else self.iterations) for s in self.learned.values())
        return own + sum(p.numel() for name in self.learned_parts for p in self.learned_parameters(name))

    @property
    def learned_parts(self) -> tuple[str, ...]:
        """The names of what approximations learn, `<site>.<parameter>`."""
        parts = (self.begin, *self.iteration)
        return tuple(dict.fromkeys(name for part in parts for name, _ in _parts(part)))

    def learned_parameters(self, name: str, iterations: Iterable[int] | None = None) -> list[nn.Parameter]:
        """The parameters of a learned value, or of a part of an approximation, in these iterations (default all)."""
        which = range(self.iterations) if iterations is None else iterations
        if name in self.learned:
            holders = [self.shared] if self.learned[name].tied else [self.iteration[k] for k in which]
            return [h.learned_parameter(name) for h in holders if isinstance(h, Holder)]
        parts = (self.begin, *(self.iteration[k] for k in which))
        return [parameter for part in parts for found, parameter in _parts(part) if found == name]

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes in the order of a call, for exporters."""
        return tuple(self.example.values())

    @property
    def unfoldc_metadata(self) -> dict[str, Any]:
        """What an exported file tells of the network: solver, learned values, validation error after each iteration."""
        learned = {name: {"shape": list(s.shape), "tied": s.tied} for name, s in self.learned.items()}
        found = {"solver": type(self.solver).__name__, "learned": learned, "errors": list(self.validation_errors)}
        return {**found, "approximated": self.approximated} if self.approximated else found

    @property
    def approximated(self) -> dict[str, list[str]]:
        """What runs at each call site that is approximated anywhere: one text for each iteration, "exact" or the
        approximation; one text for the sites of `init`."""
        found = {name: [repr(a)] for name, a in _by_site(self.begin).items()}
        at = [_by_site(iteration) for iteration in self.iteration]
        for name in dict.fromkeys(n for sites in at for n in sites):
            found[name] = [repr(sites[name]) if name in sites else "exact" for sites in at]
        return found

    def forward(self, *inputs: Tensor, iterations: int | None = None, **named: Tensor) -> Tensor:
        """The estimate (batch, n) after `iterations` iterations, K unless given."""
        *_, (v, state) = self.trajectory(self.name_inputs(*inputs, **named), iterations)
        estimate: Tensor = self.end(v, state)
        return estimate

    def iterates(self, *inputs: Tensor, iterations: int | None = None, **named: Tensor) -> list[Tensor]:
        """The estimates after 1, 2, ..., K iterations, each (batch, n)."""
        steps = self.trajectory(self.name_inputs(*inputs, **named), iterations)
        return [self.end(v, state) for v, state in steps]

    def trajectory(
        self, inputs: Mapping[str, Tensor], iterations: int | None = None, memory: Memory | None = None
    ) -> Iterator[tuple[View, Any]]:
        """After each iteration, its view and the state; `end` turns the two into an estimate.

        A `memory` with an observer sees every operation that may be approximated.
        """
        last = self.iterations if iterations is None else iterations
        if not 1 <= last <= self.iterations:
            raise InputError(
                f"{type(self.solver).__name__} called with iterations",
                f"{last}",
                f"1 to {self.iterations}",
                "Change it.",
            )
        bound = bind_inputs(self.solver, self.sizes, inputs)
        memory = Memory() if memory is None else memory
        first = self._approximations(0)
        starting = (
            self._view(0, bound, memory, first, starting=True) if any(a.uses_previous for a in first.values()) else None
        )
        begin = self._view(0, bound, memory, _by_site(self.begin), prefix="init_")
        state = self.begin(begin, self._read_by_iterations, starting)
        for k in range(last):
            if memory.entered is not None:
                memory.entered(k)
            v = self._view(k, bound, memory, self._approximations(k))
            state = self.iteration[k](v, state)
            yield v, state

    def objective(self, inputs: Mapping[str, Tensor], state: Any) -> Tensor:
        """The classical objective of a state, per problem: (batch,). Learned values do not enter it."""
        bound = bind_inputs(self.solver, self.sizes, inputs)
        device = next(iter(bound.values())).device

        def lookup(name: str, k: int) -> Tensor | None:
            given = self.solver.given.get(name)
            return bound.get(name) if given is None else given.to(device)

        return self.solver.objective(View(self.solver, lookup, 0), state)

    def name_inputs(self, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """The inputs of a call by name; raises InputError where one is missing, unknown or given twice."""
        names = self.inputs
        given = dict(zip(names, inputs, strict=False))
        repeated = set(given) & set(named)
        both = {**given, **named}
        if len(inputs) > len(names) or repeated or set(both) != set(names):
            found = ", ".join([f"{len(inputs)} by position", *named]) if named else f"{len(inputs)} by position"
            raise InputError(
                f"{type(self.solver).__name__} called with inputs", found, ", ".join(names), "Give each input once."
            )
        return {name: both[name] for name in names}

    def value(self, name: str, k: int = 0) -> Tensor:
        """The present value of a named value at iteration k (counted from 0), such as a learned step size."""
        found: Tensor = getattr(self.view(k, bind_inputs(self.solver, self.sizes, self.example)), name)
        return found.detach()

    def view(self, k: int, bound: Mapping[str, Tensor]) -> View:
        """What the solver sees at iteration k, every operation exact."""
        return View(self.solver, self._lookup(bound), k)

    def _view(
        self,
        k: int,
        bound: Mapping[str, Tensor],
        memory: Memory,
        approximations: Mapping[str, Approximation],
        **options: Any,
    ) -> View:
        sites = CallSites(approximations, memory, self._is_constant, iteration=k, **options)
        return View(self.solver, self._lookup(bound), k, sites, self.shared_values)

    @functools.cached_property
    def _read_by_iterations(self) -> list[str]:
        """The shared values that the iterations read, directly or through values of their own."""
        read = {n for reader, names in self.reads.items() if reader not in self.shared_values for n in names}
        return sorted(self.shared_values & read)

    def _approximations(self, k: int) -> Mapping[str, Approximation]:
        return _by_site(self.iteration[k])

    def _is_constant(self, tensor: Tensor) -> bool:
        """Whether a value depends on neither the inputs nor anything learned."""
        holders = (self.shared, *self.iteration)
        known = [*self.solver.given.values(), *(b for h in holders for b in h.buffers(recurse=False))]
        return any(tensor is t for t in known)

    def frozen(self) -> Unfolded:
        """A copy for export: every value that depends on no input is a constant, stored once where all iterations
        share it. Its graph holds what a call has to compute and no more: no exp of a learned log, no norm."""
        other = network_class(self.inputs)(self.solver, self.iterations, self.example)
        other.learned = dict(self.learned)
        other.sizes = self.sizes
        other.reads = self.reads
        other.is_frozen = True
        other.validation_errors = self.validation_errors
        other.shared_values = self.shared_values
        for part, copied in zip((self.begin, *self.iteration), (other.begin, *other.iteration), strict=True):
            copied.approximations = copy.deepcopy(part.approximations)
        self._fold(other, varying={INPUT}, views=self._approximated_views() if self.approximated else None)
        return other.eval()

    def fold_constants(self) -> None:
        """Compute once what depends on no input and no learned value; called when the network is made."""
        self._record(last=1)
        self._fold(self, varying={INPUT, LEARNED}, postpone={ITERATION})
        self._record(last=self.iterations)
        self._fold(self, varying={INPUT, LEARNED})
        cut = self._cut()
        names = {n for read in self.reads.values() for n in read} - set(cut) - {"k"}
        self.shared_values = frozenset(n for n in names if ITERATION not in roots(n, self.reads, cut))

    def _lookup(self, bound: Mapping[str, Tensor]) -> Lookup:
        def lookup(name: str, k: int) -> Tensor | None:
            if name in bound:
                return bound[name]
            holder = self.iteration[k]
            assert isinstance(holder, Iteration)
            for found in (holder.find(name), self.shared.find(name)):
                if found is not None:
                    return found
            return self.solver.given.get(name)

        return lookup

    def _cut(self) -> dict[str, frozenset[str]]:
        learned = {n: frozenset({LEARNED} if s.tied else {LEARNED, ITERATION}) for n, s in self.learned.items()}
        return {
            **dict.fromkeys(self.solver.given, frozenset()),
            **learned,
            **dict.fromkeys(self.inputs, frozenset({INPUT})),
        }

    @torch.no_grad()
    def _approximated_views(self) -> list[View]:
        """The view of each iteration after a call: its values are those that the approximations give."""
        views = []
        for v, state in self.trajectory(self.example, memory=Memory(checked=False)):
            self.end(v, state)
            views.append(v)
        return views

    @torch.no_grad()
    def _fold(
        self, other: Unfolded, varying: set[str], postpone: set[str] | None = None, views: list[View] | None = None
    ) -> None:
        if views is None:
            bound = bind_inputs(self.solver, self.sizes, self.example)
            views = [self.view(k, bound) for k in range(self.iterations)]
        for name, depends in needed(self.reads, self._cut(), varying).items():
            if postpone and depends & postpone:
                continue
            if ITERATION in depends:
                for view, holder in zip(views, other.iteration, strict=True):
                    assert isinstance(holder, Iteration)
                    if name not in holder.held:
                        holder.keep(name, getattr(view, name))
            elif name not in other.shared.held:
                other.shared.keep(name, getattr(views[0], name))

    @torch.no_grad()
    def _record(self, last: int) -> None:
        """Run on the example and note what is read; the shapes of the state must not change."""
        owner = type(self.solver).__name__
        bound = bind_inputs(self.solver, self.sizes, self.example)
        shapes: list[list[tuple[int, ...]]] = []
        state: Any = None
        for k in range(-1, last):
            recorder = Recorder(self.solver, self._lookup(bound), max(k, 0))
            state = self.solver.init(recorder) if k < 0 else self.solver.step(recorder, state)
            shapes.append([tuple(t.shape) for t in (state if isinstance(state, tuple) else (state,))])
            if shapes[-1] != shapes[0]:
                raise InputError(
                    f"{owner}.step", f"a state of shapes {shapes[-1]}", f"{shapes[0]}, as init returns", "Correct step."
                )
            if k >= 0:
                self.solver.output(recorder, state)
            merge_reads(self.reads, recorder.reads())


def _by_site(part: nn.Module) -> dict[str, Approximation]:
    """The approximations of `begin` or of an iteration."""
    found: Any = part.approximations
    return dict(found.items())


def _parts(part: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """What the approximations of `begin` or of an iteration learn, by name."""
    return [(f"{site}.{name}", p) for site, a in _by_site(part).items() for name, p in a.named_parameters()]


@functools.cache
def network_class(inputs: tuple[str, ...]) -> type[Unfolded]:
    """Unfolded with the inputs as named arguments of `forward`: exporters take the names and the order from there."""

    def forward(self: Unfolded, *args: Tensor, iterations: int | None = None, **named: Tensor) -> Tensor:
        return Unfolded.forward(self, *args, iterations=iterations, **named)

    kind = inspect.Parameter
    parameters = [kind(name, kind.POSITIONAL_OR_KEYWORD) for name in ("self", *inputs)]
    parameters.append(kind("iterations", kind.KEYWORD_ONLY, default=None))
    setattr(forward, "__signature__", inspect.Signature(parameters))  # noqa: B010
    return type("Unfolded", (Unfolded,), {"forward": forward, "__doc__": Unfolded.__doc__})
