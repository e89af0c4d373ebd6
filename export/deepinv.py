"""deepinv's unfolded models as modules that `export_onnx` takes: the measurement in, the reconstruction out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from keyword import iskeyword
from threading import RLock
from typing import Any

from torch import Tensor, nn

from unfoldc.errors import ExportError, InputError
from unfoldc.export.deepinv_checks import check_model, check_parameters, check_physics
from unfoldc.export.deepinv_physics import traceable
from unfoldc.export.markers import iterate

# While a call lasts, its parameters are buffers of the physics.
_ONE_CALL_AT_A_TIME = RLock()


class Unfolded(nn.Module):
    """K iterations of an unfolded deepinv model for one physics, made by `wrap`.

    Its parameters are those of the model, shared and not copied: training one trains the other.

    Attributes:
        physics: a copy of the physics, with the buffers that it had when it was wrapped.
        run_time: names of those buffers of the physics that are inputs.
    """

    def __init__(self, model: Any, physics: nn.Module, run_time: Sequence[str]) -> None:
        super().__init__()
        # Not a submodule: its parameter list `lambda` is a name that torch.export cannot write into Python code.
        self._model = (model,)
        self.prior: Any = model.prior
        self.data_fidelity: Any = model.data_fidelity
        # The cost is a diagnostic; a copy of the iterator, which shares its submodules, leaves it out.
        self.iterator: Any = copy.copy(model.fixed_point.iterator)
        self.iterator.has_cost = False
        self.physics: Any = traceable(physics)
        self.run_time = tuple(run_time)
        self.values = nn.ModuleDict()
        self._fixed: dict[str, Sequence[Any]] = {}
        self._trained: dict[str, str] = {}
        for name, values in model.init_params_algo.items():
            if isinstance(values, nn.ParameterList):
                self._trained[name] = name + "_" * iskeyword(name)
                self.values[self._trained[name]] = values
            else:
                self._fixed[name] = values

    @property
    def iterations(self) -> int:
        """K, the number of iterations."""
        return int(self._model[0].fixed_point.max_iter)

    def iterates(self, y: Tensor, *parameters: Tensor) -> list[Tensor]:
        """The estimate after each iteration, K tensors `(batch, channels, ...)`."""
        with _given(self.physics, y, self.run_time, parameters):
            return [self._model[0].get_output(state) for state in self._run(y)]

    def _reconstruct(self, y: Tensor, *parameters: Tensor) -> Tensor:
        with _given(self.physics, y, self.run_time, parameters):
            *_, last = self._run(y)
            answer: Tensor = self._model[0].get_output(last)
            return answer

    def _run(self, y: Tensor) -> Iterator[dict[str, Any]]:
        """deepinv's state after each iteration: `est`, the carried tensors, and what its iterator adds."""
        (model,) = self._model
        state = _start(model, y, self.physics)
        for k in range(self.iterations):
            parts = model.update_data_fidelity_fn(k), model.update_prior_fn(k), self._parameters_of(k)
            state = self.iterator(state, *parts, y, self.physics)
            marked = iterate(*state["est"])
            state = {**state, "est": marked if len(state["est"]) > 1 else (marked,)}
            yield state

    def _parameters_of(self, k: int) -> dict[str, Any]:
        """Step size and the like of iteration k; a list of one holds for all."""
        lists: dict[str, Any] = {**self._fixed, **{name: self.values[key] for name, key in self._trained.items()}}
        return {name: values[k] if len(values) > 1 else values[0] for name, values in lists.items()}


def wrap(model: nn.Module, physics: nn.Module, *, parameters: Sequence[str] = ()) -> Unfolded:
    """A module that computes `model(y, physics)`, with its iterations where `export_onnx` finds them.

        model = deepinv.optim.PGD(data_fidelity=..., prior=..., unfold=True, max_iter=8)
        solver = unfoldc.export.deepinv.wrap(model, physics)
        unfoldc.export_onnx(solver, y, "pgd.onnx")

    The K iterations are deepinv's own iterator, data fidelity, prior and parameters, called in the order in which
    deepinv calls them. The physics is copied, so changes of it afterwards have no effect; the model is shared.

    Args:
        model: built with `unfold=True` (or by `deepinv.unfolded.unfolded_builder`), any algorithm whose number of
            iterations is fixed: PGD, HQS, ADMM, DRS, FISTA, GD, PDCP, ...
        physics: the forward operator; its prox must have a closed form, or `physics.tol` be 0 and `physics.max_iter`
            at most 100, so that the number of inner iterations does not depend on data.
        parameters: buffers of the physics (`"mask"`, `"filter"`) that become inputs after `y`, in this order; they
            need no recompilation when they change. Those shared by all problems of a batch, such as a mask
            `(1, channels, h, w)`, are left out of `batch_inputs` at export.

    Returns:
        a module with `forward(y, *parameters)`, y and answer `(batch, ...)`; its method `iterates` takes the same and
        gives the estimates after 1 to K iterations.

    Raises:
        InputError: `model` or `physics` is not what deepinv calls that, or a parameter is not a buffer.
        ExportError: where the model stops, or its step sizes come about, depends on data.
    """
    check_model(model)
    check_physics(physics)
    check_parameters(physics, parameters)
    # The inputs' names are read from the signature of forward, which belongs to a class.
    kind = type("Unfolded", (Unfolded,), {"forward": _forward(("y", *parameters)), "__module__": __name__})
    solver: Unfolded = kind(model, physics, parameters)
    return solver


def _forward(names: Sequence[str]) -> Callable[..., Tensor]:
    def forward(self: Unfolded, *inputs: Tensor) -> Tensor:
        if len(inputs) != len(names):
            raise TypeError(f"forward takes {len(names)} tensors ({', '.join(names)}), not {len(inputs)}")
        return self._reconstruct(*inputs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *names)]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    forward.__doc__ = f"The reconstruction from {', '.join(names)}; the answer is `(batch, ...)`."
    return forward


def _start(model: Any, y: Tensor, physics: Any) -> dict[str, Any]:
    """The state before the first iteration; deepinv's own function for it replaces parameters of the model."""
    start = model.custom_init
    if start is None:
        return {"est": (physics.A_adjoint(y), physics.A_adjoint(y)), "cost": None}
    if callable(start):
        start = start(y, physics)
    if isinstance(start, dict):
        return {**start, "cost": None}
    return {"est": (start,) if isinstance(start, Tensor) else tuple(start), "cost": None}


@contextmanager
def _given(physics: Any, y: Tensor, names: Sequence[str], values: Sequence[Tensor]) -> Iterator[None]:
    """The physics with these parameters and the adjoint of y computed once; afterwards it is as it was."""
    with _ONE_CALL_AT_A_TIME:
        saved = [(part, dict(part._buffers)) for part in physics.modules()]
        attributes = dict(vars(physics))
        try:
            for name, value in zip(names, values, strict=True):
                _replace(physics, name, value)
            physics.A_adjoint = _Once(physics.A_adjoint, y)
            yield
        finally:
            vars(physics).pop("A_adjoint", None)
            vars(physics).update(attributes)
            for part, buffers in saved:
                part._buffers.update(buffers)


def _replace(physics: Any, name: str, value: Tensor) -> None:
    """Give the physics a parameter as deepinv does, which may change other buffers along with it."""
    own = getattr(physics, name)
    where = f"{type(physics).__name__}.{name}"
    if value.ndim != own.ndim or value.shape[1:] != own.shape[1:]:
        raise InputError(
            where,
            f"a tensor of shape {tuple(value.shape)}",
            f"one of shape {tuple(own.shape)}, as the physics holds it, or with the batch on axis 0",
            "Add the leading axes: mask[None] for one mask that all problems share.",
        )
    physics.update_parameters(**{name: value})
    if getattr(physics, name) is own:
        raise ExportError(
            where,
            "the physics does not take this parameter from outside",
            "parameters that its update_parameters sets",
            "Name another one, as filter instead of the mask that a BlurFFT computes from it, or wrap it as it is.",
        )


class _Once:
    """A^T with its value at y kept: deepinv's gradient asks for it in each iteration."""

    def __init__(self, function: Callable[..., Tensor], y: Tensor) -> None:
        self.function = function
        self.y = y
        self.value: Tensor | None = None

    def __call__(self, y: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if y is not self.y or arguments or options:
            return self.function(y, *arguments, **options)
        if self.value is None:
            self.value = self.function(y)
        return self.value
