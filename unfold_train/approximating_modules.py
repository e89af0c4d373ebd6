"""Approximated operations in any module: torch's own calls are intercepted, nobody has to rewrite a model."""

from __future__ import annotations

import copy
import inspect
import os
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.call_sites import CallSites, Memory, Visit
from unfoldc.unfold_train.conditions_on_data import warnings_of
from unfoldc.unfold_train.placing import check_iterations, check_names, put
from unfoldc.unfold_train.torch_calls import Factors, TorchCall, read_call

_TORCH = str(Path(torch.__file__).parent) + os.sep
Place = tuple[str, tuple[tuple[str, int, int], ...]]
# While an approximation runs, nothing is intercepted, not even for a module around this one.
_RUNNING: ContextVar[bool] = ContextVar("_RUNNING", default=False)


class ApproximatedModule(nn.Module):
    """A module in which calls of torch.linalg.solve, inv, cholesky (with cholesky_solve, cholesky_inverse or two
    triangular solves), svd and elementwise functions are approximated.

    A call site is a place in the source, found by the chain of calls that leads there; its n-th call in a run counts as
    its iteration n. A warm start carries the answer from call to call of one run; the first call begins cold.
    Approximations are parameters `approximations.<site>_<n>`. What torch.utils.checkpoint computes again, it computes
    outside of this module, exactly: do not use it inside.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.approximations = nn.ModuleDict()
        self.places: dict[Place, str] = {}
        self.calls: Counter[str] = Counter()
        self.warned: set[str] = set()
        self.train(module.training)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As the module's own; it always runs eagerly: a graph of torch.compile would not see the call sites."""
        disable: Any = torch.compiler.disable
        run = disable(self._run) if _compiles() else self._run
        return run(*inputs, **named)

    def _run(self, *inputs: Any, **named: Any) -> Any:
        with _eager(), _Interception(self):
            return self.module(*inputs, **named)

    @property
    def unfoldc_metadata(self) -> dict[str, Any]:
        """What an exported file tells: the module's own metadata and what is approximated."""
        own = getattr(self.module, "unfoldc_metadata", None) or {}
        return {**own, "approximated": {name: repr(a) for name, a in self.approximations.items()}}


def approximate_module(
    module: nn.Module,
    operations: Mapping[str, Approximation],
    chosen: frozenset[int] | None,
    example: Tensor | Sequence[Tensor] | None,
) -> ApproximatedModule:
    """See `approximate`."""
    owner = type(module).__name__
    if example is None:
        raise InputError(
            f"approximate({owner})", "no example inputs", "inputs of a typical call", "Pass example_inputs=(y,)."
        )
    wrapped = copy.deepcopy(module)
    wrapped = wrapped if isinstance(wrapped, ApproximatedModule) else _class_for(wrapped)(wrapped)
    recorded = _record(wrapped, example)
    sites = {site: visit.operation for site, _, visit in recorded.visits}
    check_names(owner, operations, sites)
    named = [v for v in recorded.visits if v[0] in operations or v[2].operation in operations]
    check_iterations(chosen, {call for _, call, _ in named})
    for site, call, visit in named:
        if chosen is None or call in chosen:
            how = operations[site] if site in operations else operations[visit.operation]
            put(wrapped.approximations, f"{site}_{call}", visit, how)
    for text in _objections(wrapped, example):
        warnings.warn(f"{owner}: {text}", stacklevel=3)
    return wrapped


def _objections(wrapped: ApproximatedModule, example: Tensor | Sequence[Tensor]) -> tuple[str, ...]:
    """What is wrong with the approximations on the example, with the arguments that they themselves lead to."""
    try:
        visits = [visit for _, _, visit in _record(wrapped, example).visits]
    except InputError as problem:
        return (str(problem),)
    return warnings_of(visit for visit in visits if visit.approximation is not None)


def _at(module: ApproximatedModule, site: str, call: int) -> Approximation | None:
    """What runs at a call site."""
    found = dict(module.approximations.items()).get(f"{site}_{call}")
    return found if isinstance(found, Approximation) else None


def _record(wrapped: ApproximatedModule, example: Tensor | Sequence[Tensor]) -> _Interception:
    """Find the call sites in a run of a copy: statistics, counters and random numbers stay as they were."""
    trial = copy.deepcopy(wrapped)
    recorded = _Interception(trial, record=True)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _eager(), recorded:
        trial.module(*((example,) if isinstance(example, Tensor) else example))
    wrapped.places, wrapped.calls = trial.places, recorded.counts
    return recorded


def _compiles() -> bool:
    """Whether torch.compile may be at work; to ask it would import it, which takes long."""
    return "torch._dynamo" in sys.modules


def _eager() -> AbstractContextManager[Any]:
    """Compiled parts of the module run as they were written."""
    return torch.compiler.set_stance("force_eager") if _compiles() else nullcontext()


def _class_for(module: nn.Module) -> type[ApproximatedModule]:
    """ApproximatedModule with the arguments of the module's own `forward`: exporters take their names from there."""

    def forward(self: ApproximatedModule, *inputs: Any, **named: Any) -> Any:
        return ApproximatedModule.forward(self, *inputs, **named)

    own = inspect.signature(module.forward)
    whole = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *own.parameters.values()]
    setattr(forward, "__signature__", own.replace(parameters=whole))  # noqa: B010
    members = {"forward": forward, "__doc__": ApproximatedModule.__doc__}
    return type("ApproximatedModule", (ApproximatedModule,), members)


class _Interception(TorchFunctionMode):
    """One run of a module. While a handler runs, the mode is off: approximations may call what they like."""

    def __init__(self, owner: ApproximatedModule, record: bool = False) -> None:
        super().__init__()
        self.owner = owner
        self.record = record
        self.visits: list[tuple[str, int, Visit]] = []
        self.counts: Counter[str] = Counter()
        self.sites = CallSites({}, Memory(), lambda tensor: False)
        self.factors = Factors()
        named: Any = owner.approximations.items()
        self.warm = {name.rpartition("_")[0] for name, a in named if a.uses_previous}
        self.shapes: dict[str, list[torch.Size]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _RUNNING.get():
            return func(*args, **kwargs)
        call = read_call(func, args, kwargs, self.factors)
        if call is None:
            result = func(*args, **kwargs)
            self.factors.note(func, args, kwargs, result)
            return result
        place = (call.operation, self._place())
        if place not in self.owner.places:
            if not self.record:
                self._warn(call.operation)
                return func(*args, **kwargs)
            taken = sum(name.split("__")[0] == call.operation for name in self.owner.places.values())
            self.owner.places[place] = f"{call.operation}__{taken + 1}" if taken else call.operation
        site = self.owner.places[place]
        number = self.counts[site]
        self.counts[site] += 1
        if not self.record and number >= self.owner.calls[site]:
            self._warn(call.operation)
        found = _at(self.owner, site, number)
        if self.record:
            visit = Visit(site, call.operation, number, call.arguments, found, "", False, False)
            self.visits.append((site, number, visit))
        if found is None:
            result = func(*args, **kwargs)
            if site in self.warm:
                self._keep(site, call, call.answer_of(result))
            self.factors.note(func, args, kwargs, result)
            return result
        self.sites.approximations = {site: found}
        self.sites.iteration = number
        if site in self.warm and self.shapes.get(site) != _shapes(call):
            self.sites.memory.answers.pop(site, None)
        running = _RUNNING.set(True)
        try:
            answer = self.sites.run(site, call.operation, _never, *call.arguments)
        finally:
            _RUNNING.reset(running)
        if site in self.warm:
            self._keep(site, call, answer)
        return call.result_of(answer)

    def _warn(self, operation: str) -> None:
        """Say once that an operation which is approximated elsewhere stays exact here."""
        approximated = {o.partition("__")[0] for o in (n.rpartition("_")[0] for n in self.owner.approximations)}
        if operation in approximated and operation not in self.owner.warned:
            self.owner.warned.add(operation)
            where = type(self.owner.module).__name__
            text = f"{where}: a call of {operation} that the example did not make stays exact; approximate it with both"
            warnings.warn(text, stacklevel=4)

    def _keep(self, site: str, call: TorchCall, answer: Any) -> None:
        """Keep an answer for a warm start: a copy, for the module may write to what it got."""
        copied = tuple(t.clone() for t in answer) if isinstance(answer, tuple) else answer.clone()
        self.sites.memory.keep(site, copied)
        self.shapes[site] = _shapes(call)

    def _place(self) -> tuple[tuple[str, int, int], ...]:
        """Where the intercepted call stands: the chain of calls in the module's own code."""
        found = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and not self._outermost(frame):
            if not frame.f_code.co_filename.startswith(_TORCH):
                found.append((frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_lasti))
            frame = frame.f_back
        return tuple(found)

    def _outermost(self, frame: FrameType) -> bool:
        return frame.f_code in _OUTERMOST and (frame.f_code is not _RUN or frame.f_locals.get("self") is self.owner)


def _shapes(call: TorchCall) -> list[torch.Size]:
    return [a.shape for a in call.arguments if isinstance(a, Tensor)]


def _never(*arguments: Any) -> Any:
    raise AssertionError("an approximated site has no exact answer")


_RUN = ApproximatedModule._run.__code__
_OUTERMOST = (_RUN, _record.__code__)
