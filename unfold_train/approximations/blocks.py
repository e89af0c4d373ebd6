"""Updates and gradients that an iteration does without: skipped, reused from the one before, or constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation, demand
from unfoldc.unfold_train.approximations.chebyshev_fit import LEARN_FACTORS, LearnFactors

Compute = Callable[..., Tensor]


class Skip(Approximation):
    """The update of a variable is left out: v.block(name, compute, x, ...) gives x.

    Cost: none. Converges where the method does with this update done more rarely.

    Source: P. Avrahami et al., unfolded solvers with approximated computations (2025); Learned RPCA's alternately
    skipped factors.
    """

    operations = ("block",)

    def forward(self, previous: Tensor | None, compute: Compute, *arguments: Any) -> Tensor:  # type: ignore[override]
        """The first argument, the present value."""
        return _first(self, arguments)

    def multiply_adds(self, compute: Compute, *arguments: Any) -> int:
        """None."""
        return 0


class Reuse(Approximation):
    """The answer of the iteration before, computed or itself reused. In the first iteration the exact answer for the
    initial state, computed in `begin`.

    Cost: none; a first iteration costs in `begin` what the block costs. Converges where the answer changes slowly.

    Source: P. Avrahami et al. (2025), gradients reused in unfolded hybrid beamforming.
    """

    operations = ("block",)
    uses_previous = True

    def start(self, compute: Compute, *arguments: Any) -> Tensor:
        """The exact answer."""
        return compute(*arguments)

    def forward(self, previous: Tensor | None, compute: Compute, *arguments: Any) -> Tensor:  # type: ignore[override]
        """The previous answer."""
        return compute(*arguments) if previous is None else previous

    def multiply_adds(self, compute: Compute, *arguments: Any) -> int:
        """None."""
        return 0


class ConstantAnswer(Approximation):
    """A tensor like the first argument, every number of it `value`: a gradient of which learned step sizes, scalar to
    elementwise, make a learned step. With learn="scalar" the value is learned.

    Cost: none. No condition for convergence: what it leads to is up to training.

    Source: P. Avrahami et al. (2025), the analogue precoder's gradient replaced by ones.
    """

    operations = ("block",)

    def __init__(self, value: float = 1.0, learn: LearnFactors = "none") -> None:
        super().__init__(value=value, learn=learn)
        demand(
            "ConstantAnswer(value=...)",
            "a finite number",
            isinstance(value, int | float) and abs(value) < math.inf,
            value,
        )
        demand("ConstantAnswer(learn=...)", ", ".join(LEARN_FACTORS), learn in LEARN_FACTORS, learn)
        self.value = float(value)
        self.learn = learn

    def prepare(self, compute: Compute, *arguments: Any) -> None:
        """Make the learned value."""
        if self.learn == "scalar":
            self.learned_value = nn.Parameter(_first(self, arguments).new_full((), self.value))

    def forward(self, previous: Tensor | None, compute: Compute, *arguments: Any) -> Tensor:  # type: ignore[override]
        """The constant, in the shape of the first argument."""
        x = _first(self, arguments)
        if self.learn == "none":
            return torch.full_like(x, self.value)
        if not hasattr(self, "learned_value"):
            raise InputError(
                repr(self),
                "called before it knows its type",
                "approximations that approximate() has put in place",
                "Call prepare(compute, x) first, or use unfoldc.approximate.",
            )
        return self.learned_value.expand(x.shape)

    def multiply_adds(self, compute: Compute, *arguments: Any) -> int:
        """None."""
        return 0


def _first(of: Approximation, arguments: tuple[Any, ...]) -> Tensor:
    if not arguments or not isinstance(arguments[0], Tensor):
        found = "no argument" if not arguments else f"a {type(arguments[0]).__name__} as first argument"
        raise InputError(
            repr(of),
            f"a block with {found}",
            "blocks whose first argument is a tensor like the answer",
            "Write v.block(name, compute, x, ...) with the present value x.",
        )
    return arguments[0]
