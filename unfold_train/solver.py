"""The base class of iterative solvers: declared values and `init / step / output / objective`."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unfoldc.errors import InputError, TrainingError
from unfoldc.unfold_train.sizes import Sizes
from unfoldc.unfold_train.values import Input, Value, View

# Attributes of the modules that hold values (see holder.py), where a value of that name could not be stored.
_TAKEN = ("held", "keep", "learn", "find", "learned_parameter", "solver", "iterations")

Given = Tensor | np.ndarray | float | Input


class Solver:
    """A classical iterative method. A subclass declares its values and defines init, step and output.

        class Ista(Solver):
            y = Input("m")
            A = Objective("m", "n")
            rho = Objective(positive=True)
            mu = Hyper(lambda v: 1 / spectral_norm(v.A) ** 2, positive=True)
            theta = Derived(lambda v: v.mu * v.rho, positive=True)
            def init(self, v): return v.y.new_zeros(v.y.shape[0], v.A.shape[-1])
            def step(self, v, x): return soft_threshold(x - v.mu * ((x @ v.A.mT - v.y) @ v.A), v.theta)
            def output(self, v, x): return x

    Values are given by name: `Ista(A=A, rho=0.1)`. Any declared value may be given, also a derived one, and
    `A=Input()` makes it an input of each call. The state is a tensor or a tuple of tensors of shape (batch, ...).

    Raises InputError where a name is unknown, sizes disagree, types are mixed, or a number is NaN or infinite.
    """

    values: ClassVar[dict[str, Value]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in (n for n, v in vars(cls).items() if isinstance(v, Value)):
            if name.startswith("_") or name in _TAKEN or hasattr(nn.Module(), name) or hasattr(View, name):
                raise InputError(
                    f"{cls.__name__}.{name}",
                    "the name is used inside the network's modules",
                    f"names that torch.nn.Module does not use, without a leading underscore, not {', '.join(_TAKEN)}",
                    "Rename the value.",
                )
        cls.values = {n: v for base in reversed(cls.__mro__) for n, v in vars(base).items() if isinstance(v, Value)}

    def __init__(self, **given: Given) -> None:
        self.given: dict[str, Tensor] = {}
        converted = set()
        for name, value in given.items():
            self._check_name(name)
            if isinstance(value, Input):
                converted.add(name)
            else:
                self.given[name] = self._constant(name, value)
        self.inputs = tuple(n for n, v in self.values.items() if isinstance(v, Input)) + tuple(
            n for n in self.values if n in converted
        )
        self.dtype: torch.dtype
        """The element type of all given arrays; torch's default where only numbers are given."""
        self._agree_on_type()
        self.sizes = Sizes(type(self).__name__)
        for name, tensor in self.given.items():
            self.sizes.bind(name, self.values[name].dims, tuple(tensor.shape))

    def with_type(self, dtype: torch.dtype) -> Self:
        """The same solver with its numbers in another type, for calls with inputs of that type."""
        other = copy.copy(self)
        other.dtype = dtype
        other.given = self._as(dtype)
        return other

    def init(self, v: View) -> Any:
        """The state before the first iteration; runs once per call, in `begin`."""
        raise NotImplementedError(f"{type(self).__name__}.init")

    def step(self, v: View, state: Any) -> Any:
        """One iteration: the next state, with the same shapes."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def output(self, v: View, state: Any) -> Tensor:
        """The estimate (batch, n) that a state stands for; runs in `end`."""
        raise NotImplementedError(f"{type(self).__name__}.output")

    def objective(self, v: View, state: Any) -> Tensor:
        """The value that the classical method minimises, per problem: (batch,). The loss of unsupervised training."""
        raise TrainingError(
            type(self).__name__,
            "the solver defines no objective",
            "a method objective(self, v, state) that returns one number per problem",
            "Define it or train with a supervised loss.",
        )

    def _check_name(self, name: str) -> None:
        where = f"{type(self).__name__}({name}=...)"
        if name not in self.values:
            raise InputError(where, "unknown value", ", ".join(self.values), "Correct the name.")
        if isinstance(self.values[name], Input):
            raise InputError(where, "it is an input of each call", "other values", "Pass it when you call the network.")

    def _constant(self, name: str, value: Tensor | np.ndarray | float) -> Tensor:
        where = f"{type(self).__name__}({name}=...)"
        try:
            # A plain number keeps all its digits until the type of the arrays is known.
            exact = torch.float64 if isinstance(value, float | int) else None
            tensor = torch.as_tensor(value, dtype=exact).detach().clone()
        except (TypeError, ValueError, RuntimeError) as problem:
            raise InputError(
                where, f"found {type(value).__name__}", "a number, an array or a tensor", "Convert it first."
            ) from problem
        if self.values[name].integer:
            if tensor.is_floating_point() or tensor.is_complex():
                raise InputError(where, f"found {tensor.dtype}", "whole numbers", "Convert the indices to int64.")
            return tensor.long()
        if not tensor.is_floating_point():
            raise InputError(where, f"found {tensor.dtype}", "real floating-point numbers", "Convert it to float32.")
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise InputError(
                where, f"{bad} of {tensor.numel()} numbers are NaN or infinite", "finite numbers", "Correct the data."
            )
        return tensor

    def _agree_on_type(self) -> None:
        arrays = {n: t.dtype for n, t in self.given.items() if t.is_floating_point() and t.dim() > 0}
        if len(set(arrays.values())) > 1:
            found = ", ".join(f"{n} {d}" for n, d in arrays.items())
            raise InputError(type(self).__name__, f"mixed types: {found}", "one type", "Convert all arrays to float32.")
        self.has_arrays = bool(arrays)
        self.dtype = next(iter(arrays.values()), torch.get_default_dtype())
        self._exact = self.given
        self.given = self._as(self.dtype)

    def _as(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {n: t.to(dtype) if t.is_floating_point() else t for n, t in self._exact.items()}
