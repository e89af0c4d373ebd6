"""The square root by Newton's method for 1/√x, without a division."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from unfoldc.unfold_train.approximations.base import demand
from unfoldc.unfold_train.approximations.chebyshev_fit import Array, LearnFactors
from unfoldc.unfold_train.approximations.newton import Newton
from unfoldc.unfold_train.approximations.polynomial import Outside

# From e = |1 - √x y| a step comes to e²(3 - e)/2 at y too small, e²(3 + e)/2 at y too large: less than e below this.
_LARGEST = 0.5615528128088303


class NewtonSqrt(Newton):
    """√x = x y on [low, high], low > 0, with y ← y (3 - x y²)/2 → 1/√x from a first guess y = p(x).

    p is the polynomial of degree `guess` with the smallest largest |1 - √x p(x)| = e; a step makes at most
    e²(3 + e)/2 of it. Learned coefficients are factors of p's in the Chebyshev basis.

    Cost per number: guess + 3 + 3 · steps multiply-adds (1 more where a guess of degree > 1 is learned). It converges
    where e < (√17 - 3)/2 = 0.56; a wider range needs a guess of a higher degree. `error` states the largest absolute
    error.

    Source: C. Freiman and C. Chen; see J.-M. Muller, Elementary Functions (2016), chapter 5.
    """

    operations = ("sqrt",)

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
        self.fit_guess(np.sqrt)
        demand(
            f"NewtonSqrt(low={low:g}, high={high:g}, guess={guess})",
            f"a relative error of the first guess below {_LARGEST:.2g}: a narrower range or a higher guess",
            self.guess_error < _LARGEST,
            round(self.guess_error, 3),
        )

    def exact(self, x: Array) -> Array:
        """√x."""
        value: Array = np.sqrt(x)
        return value

    def evaluate(self, x: Tensor) -> Tensor:
        """The guess and the steps."""
        y, half = self.first(x), 0.5 * x
        for _ in range(self.steps):
            y = y * (1.5 - half * y * y)
        return x * y

    @property
    def multiply_adds_each(self) -> int:
        """That of the guess, 3 for each step, and 2 for x/2 and the last product."""
        return self.guess_multiply_adds + 3 * self.steps + 2
