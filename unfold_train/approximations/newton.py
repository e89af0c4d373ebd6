"""What Newton's method for the reciprocal and the square root share: the range and the first guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import demand
from unfoldc.unfold_train.approximations.chebyshev_fit import Array, ChebyshevSeries, LearnFactors, best_coefficients
from unfoldc.unfold_train.approximations.polynomial import FIT_POINTS, Elementwise, Outside


class Newton(Elementwise):
    """Newton steps on [low, high], low > 0, from a first guess p(x) that minimises max |1 - w(x) p(x)|, w p being 1
    for the exact answer. `guess_error` is that maximum."""

    def __init__(self, steps: int, low: float, high: float, guess: int, outside: Outside, learn: LearnFactors) -> None:
        super().__init__(low, high, outside, learn, {"steps": steps, "low": low, "high": high, "guess": guess})
        name = type(self).__name__
        demand(f"{name}(steps=...)", "1 to 16", type(steps) is int and 1 <= steps <= 16, steps)
        demand(f"{name}(low=...)", "a number above zero", low > 0, low)
        demand(f"{name}(guess=...)", "a degree from 1 to 16", type(guess) is int and 1 <= guess <= 16, guess)
        self.steps = steps
        self.guess = guess

    def fit_guess(self, weight: Callable[[Array], Array]) -> None:
        """Find p and measure the error."""
        self.scale = 2 / (self.high - self.low)
        self.shift = -(self.low + self.high) / (self.high - self.low)
        t = -np.cos(np.linspace(0, np.pi, FIT_POINTS))
        x = (t - self.shift) / self.scale
        coefficients = best_coefficients(t, np.ones_like(t), weight(x), self.guess + 1)
        self.series = ChebyshevSeries(coefficients, self.learn)
        first = self.untrained(lambda a: a.first(torch.from_numpy(x)))
        self.guess_error = float(np.abs(1 - weight(x) * first).max())
        self.error = self.measure_error()

    def prepare(self, x: Tensor, *_: Any) -> None:
        """Make the factors of the guess."""
        self.series.prepare(x)

    def first(self, x: Tensor) -> Tensor:
        """The first guess."""
        value: Tensor = self.series(self.scale * x + self.shift)
        return value

    @property
    def guess_multiply_adds(self) -> int:
        """Multiply-adds of the first guess for one number."""
        return self.series.multiply_adds + 1
