"""The reciprocal by Newton's method, without a division."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from unfoldc.unfold_train.approximations.chebyshev_fit import Array, LearnFactors
from unfoldc.unfold_train.approximations.newton import Newton
from unfoldc.unfold_train.approximations.polynomial import Outside


class NewtonReciprocal(Newton):
    """1/x on [low, high], low > 0: y ← y (2 - x y) from a first guess y = p(x).

    p is the polynomial of degree `guess` with the smallest largest |1 - x p(x)| = e < 1; each step squares it: after
    k steps the relative error is at most e^(2ᵏ). Learned coefficients are factors of p's in the Chebyshev basis.

    Cost per number: guess + 1 + 2 · steps multiply-adds (1 more where a guess of degree > 1 is learned). It converges
    for every range; e = 1/cosh(2 arcosh((high + low)/(high - low))) for a linear guess. `error` states the largest
    absolute error.

    Source: Newton-Raphson division, M. Ercegovac and T. Lang, Digital Arithmetic (2004), chapter 7.
    """

    operations = ("reciprocal",)

    def __init__(
        self,
        steps: int = 2,
        low: float = 0.5,
        high: float = 2.0,
        guess: int = 1,
        outside: Outside = "nan",
        learn: LearnFactors = "none",
    ) -> None:
        super().__init__(steps, low, high, guess, outside, learn)
        self.fit_guess(lambda x: x)

    def exact(self, x: Array) -> Array:
        """1/x."""
        return np.reciprocal(x)

    def evaluate(self, x: Tensor) -> Tensor:
        """The guess and the steps."""
        y = self.first(x)
        for _ in range(self.steps):
            y = y * (2 - x * y)
        return y

    @property
    def multiply_adds_each(self) -> int:
        """That of the guess, and 2 for each step."""
        return self.guess_multiply_adds + 2 * self.steps
