"""What elementwise approximations share: a stated range, a stated error, and polynomials in the argument."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.export.evaluation import may_refuse
from unfoldc.unfold_train.approximations.base import Approximation, Convergence, demand
from unfoldc.unfold_train.approximations.chebyshev_fit import (
    LEARN_FACTORS,
    Array,
    ChebyshevSeries,
    LearnFactors,
    best_coefficients,
)

Outside = Literal["nan", "clamp"]
OUTSIDES = ("nan", "clamp")
FIT_POINTS = 4001
_ERROR_POINTS = 20001
# Squares of what is larger do not fit float32.
LARGEST = 1e18
_BETWEEN_POINTS = 1.001


class Elementwise(Approximation):
    """An approximation of a function of one number on a stated range [low, high], by additions and multiplications.

    `range` is what the arguments may be, `error` the largest absolute error there (before training, without the
    rounding of the type): the largest on 20 001 points, and 0.1 % for what lies between them. Outside of the range the
    answer is NaN (`outside="nan"`), which a compiled solver's status flags as NOT_FINITE and which takes one more
    product for each number, or that at the nearer end of the range ("clamp").
    """

    def __init__(
        self, low: float, high: float, outside: Outside, learn: LearnFactors, options: Mapping[str, Any]
    ) -> None:
        super().__init__(**options, outside=outside, learn=learn)
        name = type(self).__name__
        numbers = all(isinstance(x, int | float) and abs(x) <= LARGEST for x in (low, high))
        demand(
            f"{name}(low=..., high=...)",
            "two finite numbers, low < high, below 1e18",
            numbers and low < high,
            (low, high),
        )
        demand(f"{name}(outside=...)", ", ".join(OUTSIDES), outside in OUTSIDES, outside)
        demand(f"{name}(learn=...)", ", ".join(LEARN_FACTORS), learn in LEARN_FACTORS, learn)
        self.low, self.high = float(low), float(high)
        self.outside = outside
        self.learn = learn
        self.range = (self.low, self.high)
        self.error = math.inf

    def exact(self, x: Array) -> Array:
        """The function itself."""
        raise NotImplementedError(type(self).__name__)

    def evaluate(self, x: Tensor) -> Tensor:
        """The approximation for arguments inside the range."""
        raise NotImplementedError(type(self).__name__)

    @property
    def multiply_adds_each(self) -> int:
        """Multiply-adds for one number."""
        raise NotImplementedError(type(self).__name__)

    def forward(self, previous: Tensor | None, x: Tensor) -> Tensor:  # type: ignore[override]
        """The approximate function of x (...), elementwise."""
        inside = x.clamp(self.low, self.high)
        if self.outside == "clamp":
            return self.evaluate(inside)
        self._demand_range(x)
        value = self.evaluate(inside)
        # Outside infinity times zero: a file that holds NaN as a constant would be taken for a damaged one.
        known = inside == x
        return torch.where(known, value, torch.inf) * known.to(x.dtype)

    def multiply_adds(self, x: Tensor) -> int:
        """Of one problem, x (batch, ...)."""
        return (self.multiply_adds_each + (self.outside == "nan")) * math.prod(x.shape[1:])

    def convergence(self, x: Tensor) -> Convergence | None:
        """The largest distance of an argument from the middle of the range, in half widths of it; at most 1."""
        if self.outside == "clamp":
            return None
        with torch.no_grad():
            far = (2 * x.double() - (self.low + self.high)).abs() / (self.high - self.low)
            broken = ~((x >= self.low) & (x <= self.high))
            name = f"the distance of the argument from the middle of [{self.low:g}, {self.high:g}], in half widths"
            worst = float(far.max()) if bool(torch.isfinite(far).all()) else math.inf
            return Convergence(name, worst, 1.0, float(broken.double().mean()))

    def measure_error(self) -> float:
        """The largest absolute error on a fine grid of the range, untrained."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        # Chebyshev's points: errors are largest and change fastest near the ends.
        x = np.clip(middle - half * np.cos(np.linspace(0, np.pi, _ERROR_POINTS)), self.low, self.high)
        found = self.untrained(lambda a: a.evaluate(torch.from_numpy(x)))
        return float(np.abs(found - self.exact(x)).max() * _BETWEEN_POINTS)

    def untrained(self, compute: Callable[[Self], Tensor]) -> Array:
        """What is computed in float64 with a copy whose learned coefficients are at their start."""
        fresh = copy.deepcopy(self)
        with torch.no_grad():
            fresh.prepare(torch.zeros(1, 1, dtype=torch.float64))
            found: Array = compute(fresh).numpy()
        return found

    def _demand_range(self, x: Tensor) -> None:
        if not may_refuse():
            return
        bad = ((x < self.low) | (x > self.high)) & (x.abs() != torch.inf)
        if bool(bad.any()):
            distance = torch.where(bad, torch.maximum(self.low - x, x - self.high), -torch.inf)
            worst = float(x.detach().reshape(-1)[distance.argmax()])
            raise InputError(
                repr(self),
                f"{int(bad.sum())} of {x.numel()} arguments are out of range, the farthest is {worst:g}",
                f"{self.low:g} to {self.high:g}",
                'Give a wider range, or outside="clamp" to move such arguments to its ends.',
            )


class Polynomial(Elementwise):
    """f(x) ≈ w(x) p(t(x)) with the best polynomial p of a degree: its largest error is as small as possible.

    t maps the range to [-1, 1]; w is 1, or x where f is odd. Cost per number: that of p, see `ChebyshevSeries`, 1 or
    2 for t, and 1 for w.
    """

    def __init__(
        self,
        degree: int,
        low: float,
        high: float,
        outside: Outside,
        learn: LearnFactors,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(low, high, outside, learn, {"degree": degree, **options})
        demand(
            f"{type(self).__name__}(degree=...)",
            "1 to 32",
            type(degree) is int and 1 <= degree <= 32,
            degree,
        )
        self.degree = degree

    def fit(self, t: Array, wanted: Array, weight: Array, count: int) -> None:
        """Find p with `count` coefficients and measure the error."""
        self.series = ChebyshevSeries(best_coefficients(t, wanted, weight, count), self.learn)
        self.error = self.measure_error()

    def prepare(self, x: Tensor, *_: Any) -> None:
        """Make the factors of the coefficients."""
        self.series.prepare(x)


class Affine(Polynomial):
    """f(x) ≈ p((2 x - low - high)/(high - low))."""

    def __init__(
        self, degree: int, low: float, high: float, outside: Outside, learn: LearnFactors, **options: Any
    ) -> None:
        super().__init__(degree, low, high, outside, learn, {"low": low, "high": high, **options})

    def fit_range(self, wanted: Callable[[Array], Array]) -> None:
        """Fit p(t(x)) to a function on the range."""
        self.scale = 2 / (self.high - self.low)
        self.shift = -(self.low + self.high) / (self.high - self.low)
        t = -np.cos(np.linspace(0, np.pi, FIT_POINTS))
        x = (t - self.shift) / self.scale
        self.fit(t, wanted(x), np.ones_like(x), self.degree + 1)

    def evaluate(self, x: Tensor) -> Tensor:
        """p(t(x))."""
        value: Tensor = self.series(self.scale * x + self.shift)
        return value

    @property
    def multiply_adds_each(self) -> int:
        """That of p, and 1 for t."""
        return self.series.multiply_adds + 1


class Odd(Polynomial):
    """f(x) ≈ offset + x q(2 x²/high² - 1) on [-high, high], for an odd f - offset that comes near ±1 · `limit`.

    With outside="clamp" the range is all numbers, and `error` counts what is missing to the limit of f.
    """

    offset = 0.0
    limit = 1.0

    def __init__(self, degree: int, high: float, outside: Outside, learn: LearnFactors) -> None:
        demand(
            f"{type(self).__name__}(high=...)",
            "a number above zero, not below 1e-9",
            isinstance(high, int | float) and high >= 1e-9,
            high,
        )
        super().__init__(degree, -high, high, outside, learn, {"high": high})
        demand(f"{type(self).__name__}(degree=...)", "an odd number", degree % 2 == 1, degree)
        self.scale = 2 / high**2
        # t = -1 .. 1 is x = 0 .. high; the other half follows from the symmetry.
        x = high * np.sin(np.linspace(0, np.pi / 2, FIT_POINTS))
        self.fit(self.scale * x**2 - 1, self.exact(x) - self.offset, x, (degree + 1) // 2)
        if outside == "clamp":
            end = self.untrained(lambda a: a.evaluate(torch.tensor([high], dtype=torch.float64)))
            self.error = max(self.error, abs(self.limit + self.offset - float(end[0])))
            self.range = (-math.inf, math.inf)

    def evaluate(self, x: Tensor) -> Tensor:
        """offset + x q(t(x))."""
        value: Tensor = x * self.series(self.scale * x * x - 1)
        return value + self.offset if self.offset else value

    @property
    def multiply_adds_each(self) -> int:
        """That of q, 2 for t, and 1 for the product with x."""
        return self.series.multiply_adds + 3
